"""``rlnas export``: the network of a run as files that need no rlnas."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from rlnas import results
from rlnas.data.description import describe
from rlnas.errors import ConfigError
from rlnas.export import card as model_card
from rlnas.export.choosing import BEST
from rlnas.export.exporting import CARD, FORMATS, MODULE, ONNX, Exported, check_formats, export
from rlnas.export.exporting import Request as Work
from rlnas.report.words import quantity
from rlnas.tracking.line import ProgressLine

USAGE = """\
rlnas export RUN [architecture=WHICH] [KEY=VALUE]...: train a network of a run, and write it as files without rlnas.

  rlnas export outputs/DATE/TIME                        the best, trained as the run did it
  rlnas export outputs/DATE/TIME epochs=48              trained longer
  rlnas export outputs/DATE/TIME architecture=knee      another one
  rlnas export outputs/DATE/TIME dataset=digits         after a search on a table that does not say its data

  architecture=best     best, knee (of the front), winner (of rlnas retrain, as fully trained), the name of a reference
                        network (resnet), the number of a step (157), or all indices (0,3,1,...)
  epochs=N, proxy.KEY=VALUE, proxy=NAME                 of the training; dataset.KEY=VALUE, dataset=NAME: of the data
  out=RUN/export        where the files come
  formats=onnx,torch    onnx: network.onnx (dynamic batch); torch: network.py (plain torch), network.safetensors
  --config-dir FOLDER   as for rlnas train

Always with task.json (how inputs are made, names of classes), for text tokenizer.json, and README.md, the model card.
All files are loaded again and compared with the trained network on the whole test split before they take their place.
"""
OK, INTERRUPTED = 0, 130

GROUPS = ("dataset", "proxy")
"""Of which another option can be given, or other keys."""

_OWN = ("architecture", "epochs", "out", "formats")


@dataclass(frozen=True)
class Request:
    """What the command line says.

    Attributes:
        folder: Of the run, absolute.
        architecture: Which, see `rlnas.export.choosing.choose`.
        out: Where the files come, absolute.
        formats: Some of `FORMATS`.
        overrides: Of `GROUPS`, as Hydra takes them.
        command: As it was written.
        config_folder: Of options of the user's own.
    """

    folder: Path
    architecture: str
    out: Path
    formats: tuple[str, ...]
    overrides: tuple[str, ...]
    command: str
    config_folder: str | None = None

    @classmethod
    def of(cls, arguments: Sequence[str]) -> Request:
        """Read the arguments of the command.

        Raises:
            ConfigError: They do not begin with the folder of a run, or a key is unknown.
        """
        rest, folders = list(arguments), None
        if "--config-dir" in rest[:-1]:
            at = rest.index("--config-dir")
            folders = str(Path(rest[at + 1]).resolve())
            del rest[at : at + 2]
        if not rest or "=" in rest[0] or rest[0].startswith("-"):
            raise ConfigError("give the folder of a run: rlnas export outputs/DATE/TIME [architecture=WHICH]")
        folder = Path(rest[0]).resolve()
        if not (folder / results.HISTORY).is_file():
            raise ConfigError(f"{rest[0]} holds no run; give a folder such as outputs/DATE/TIME")
        own = dict.fromkeys(_OWN, "")
        overrides = []
        for argument in rest[1:]:
            key, equals, value = argument.partition("=")
            if equals and key in own:
                own[key] = value
            elif equals and key.lstrip("+").split(".")[0] in GROUPS:
                overrides.append(_with_whole_path(key, value))
            else:
                raise _unknown(argument)
        if own["epochs"]:
            overrides.append(f"proxy.epochs={own['epochs']}")
        formats = tuple(name.strip() for name in own["formats"].strip("[]").split(",")) if own["formats"] else FORMATS
        out = Path(own["out"]).resolve() if own["out"] else folder / "export"
        command = shlex.join(["rlnas", "export", *arguments])
        return cls(folder, own["architecture"] or BEST, out, formats, tuple(overrides), command, folders)


def run(
    request: Request,
    compose: Callable[[Request], AbstractContextManager[Work]],
    messages: Console,
    console: Console,
) -> int:
    """Export and return the exit code.

    Args:
        request: What the command line says.
        compose: Makes the parts.
        messages: Where the progress is shown.
        console: Where the end is printed.

    Raises:
        RlnasError: Nothing can be exported; an earlier export is as it was.
    """
    check_formats(request.formats)
    with results.held(request.folder), compose(request) as work:
        for text in (describe(work.task), *work.notes):
            messages.print(text, highlight=False, markup=False, soft_wrap=True)
        with ProgressLine(messages) as progress:
            try:
                exported = export(work, model_card.card, progress.show)
            except KeyboardInterrupt:
                console.print("interrupted: nothing was written", highlight=False)
                return INTERRUPTED
        _say(work, exported, console)
    return OK


def _with_whole_path(key: str, value: str) -> str:
    """Return an override whose path is seen from here, not from where the run was started."""
    is_path = key.lstrip("+") in ("dataset.path", "proxy.path") and value not in ("", "null")
    return f"{key}={Path(value).resolve() if is_path and not value.startswith('bundled:') else value}"


def _unknown(argument: str) -> ConfigError:
    key = argument.partition("=")[0]
    known = [*_OWN, *(f"{group}.KEY" for group in GROUPS), *GROUPS]
    near = difflib.get_close_matches(key, known, n=1)
    meant = f" (did you mean {near[0]!r}?)" if near else ""
    return ConfigError(f"{argument} has no effect on an export{meant}; it takes {', '.join(known)}")


def _say(work: Work, exported: Exported, console: Console) -> None:
    """Print what was exported, how good it is, and how it compares with what was trained."""
    fidelity = work.proxy.fidelity
    tested = fidelity.replace("val_", "test_", 1)
    lines = [
        f"{work.space.describe(work.chosen.architecture)}  ({work.chosen.reason})",
        f"{fidelity} {exported.accuracy:.4f}; {tested} {exported.test_accuracy:.4f}, which nothing was chosen by",
        model_card.sentence_of_record(work, exported),
        ", ".join(f"{name} {quantity(value)}" for name, value in exported.costs.items()),
    ]
    for name in (MODULE, ONNX):
        if name in exported.parities:
            found = exported.parities[name]
            lines.append(
                f"{name}: the same class as the trained network on {found.agreeing} of {found.examples} test examples, "
                f"logits differ by {found.max_relative:.1e} at most"
            )
    shown = work.out.relative_to(Path.cwd()) if work.out.is_relative_to(Path.cwd()) else work.out
    lines.append(f"in {shown}: {', '.join(exported.files)}; {CARD} says how to use it")
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
