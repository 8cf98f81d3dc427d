"""What has been measured so far, on disk after each piece, so that an interrupted profile goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlnas.errors import OutputError
from rlnas.space import Json

FORMAT = "rlnas.profile.part/1"


class Journal:
    """Measured values by key, one line of JSON for each piece of work; the first line says what is measured.

    A file of another request is set aside: begun anew. A line that a kill has cut off is dropped.

    Args:
        path: Of the file; its folder exists.
        request: Everything that can change a value, as JSON values.
    """

    def __init__(self, path: Path, request: Mapping[str, Json]) -> None:
        self._path = path
        self._head = json.dumps({"format": FORMAT, **request}, sort_keys=True)
        self.values: dict[str, list[float]] = {}
        self.seconds = 0.0
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n") if path.is_file() else []
        self.resumed = bool(lines) and lines[0] == self._head
        if self.resumed:
            for line in lines[1:-1]:
                self._take(json.loads(line))
        self._rewrite()

    def add(self, values: Mapping[str, Sequence[float]], seconds: float) -> None:
        """Keep the values of a piece that took so many seconds.

        Raises:
            OutputError: The file cannot be written.
        """
        piece = {"seconds": seconds, "values": {key: list(numbers) for key, numbers in values.items()}}
        self._take(piece)
        self._write("a", [json.dumps(piece)])

    def remove(self) -> None:
        """Delete the file: the profile is complete."""
        self._path.unlink(missing_ok=True)

    def _take(self, piece: Mapping[str, Any]) -> None:
        self.values.update(piece["values"])
        self.seconds += piece["seconds"]

    def _rewrite(self) -> None:
        """Write what was understood, so that lines of this sitting do not follow half a line of the last."""
        kept = [json.dumps({"seconds": self.seconds, "values": self.values})] if self.values else []
        self._write("w", [self._head, *kept])

    def _write(self, mode: str, lines: Sequence[str]) -> None:
        try:
            with self._path.open(mode, encoding="utf-8") as file:
                file.write("".join(f"{line}\n" for line in lines))
        except OSError as error:
            raise OutputError(
                f"cannot write {self._path} ({error.strerror or error}); make room or choose another profile.path"
            ) from error
