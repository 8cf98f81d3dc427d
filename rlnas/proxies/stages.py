"""Stages of one training, each a proxy of its own with a place of its own in the store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rlnas.interfaces import Estimate, Failure, Proxy
from rlnas.space import Architecture, Json


@dataclass(frozen=True, slots=True, order=True)
class StagedArchitecture(Architecture):
    """An architecture, and how far it is to be trained.

    Attributes:
        epochs: After which to look.
        folder: Where stopped trainings are kept; None: nowhere.
    """

    epochs: int
    folder: str | None = None


class Stage:
    """What a training has come to after some of its epochs; a view of the proxy of the whole training.

    Args:
        carrier: Trains; takes a `StagedArchitecture` where it takes an `Architecture`.
        length: Epochs of its whole training.
        epochs: Of this stage, at most `length`.
        folder: See `rlnas.interfaces.StagedProxy`.
    """

    def __init__(self, carrier: Proxy, length: int, epochs: int, folder: Path | None) -> None:
        self.carrier = carrier
        self._length, self._epochs = length, epochs
        self._folder = None if folder is None else str(folder.resolve())  # workers may work elsewhere

    @property
    def fidelity(self) -> str:
        """Such as ``val_accuracy@4of12``; that of the whole training for the last stage."""
        whole = self.carrier.fidelity
        return whole if self._is_last else f"{whole.rpartition('@')[0]}@{self._epochs}of{self._length}"

    @property
    def settings(self) -> Mapping[str, Json]:
        """Those of the whole training, and where it was stopped."""
        return self.carrier.settings if self._is_last else {**self.carrier.settings, "stop_at": self._epochs}

    @property
    def reusable(self) -> bool:
        """As the whole training's."""
        return self.carrier.reusable

    def addressed(self, architecture: Architecture) -> StagedArchitecture:
        """Return what `carrier` is asked for."""
        return StagedArchitecture(architecture.indices, self._epochs, self._folder)

    def estimate(self, architectures: Sequence[Architecture]) -> Iterable[Estimate | Failure]:
        """Yield one result for each architecture, in order; see `rlnas.interfaces.Proxy`."""
        return self.carrier.estimate([self.addressed(architecture) for architecture in architectures])

    @property
    def _is_last(self) -> bool:
        return self._epochs == self._length
