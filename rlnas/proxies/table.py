"""Accuracy from a table of architectures: a search without training."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from rlnas.errors import ConfigError, TableError
from rlnas.interfaces import Estimate, Failure
from rlnas.space import Architecture, Json, SearchSpace
from rlnas.tables import Float32Array, TableLookup, cached_table
from rlnas.tables.seeds import mean_over_seeds, sampled_seed

_LENGTH = re.compile(r"@(\d+)")
_logger = logging.getLogger(__name__)


class TableProxy:
    """Looks accuracies up.

    Args:
        space: The space of the table.
        path: The ``.npz`` table, relative to the working directory, or ``bundled:NAME``.
        column: The accuracy to search by; becomes `fidelity`.
        seconds_column: What an evaluation costs on the ledger; None: ``train_seconds@<the same fidelity>`` where
            the table has it, else nothing.
        seeds: ``mean``: the column itself, or where there is none the mean of its seeds (columns such as
            ``val_accuracy@200/seed777``). ``sample``: for each architecture one of its known seeds, the noise as it
            was measured.
        sampling_seed: >= 0; with the architecture it alone decides which seed is drawn.

    Raises:
        TableError: The table is unreadable or of another space, or the column is unknown, holds no accuracies, has no
            seeds to sample, or holds test accuracies although the table has validation accuracies.
        ConfigError: ``sampling_seed`` is negative, or given without ``seeds=sample``.
    """

    reusable = False
    in_process = True  # a lookup is cheaper than the way to a worker process

    def __init__(
        self,
        space: SearchSpace,
        *,
        path: Path,
        column: str = "val_accuracy@12",
        seconds_column: str | None = None,
        seeds: Literal["mean", "sample"] = "mean",
        sampling_seed: int = 0,
    ) -> None:
        _check_sampling(seeds, sampling_seed)
        table = cached_table(path)
        self._lookup = TableLookup(table, space)
        self._arguments = (space, path, seeds, sampling_seed)
        self._accuracies = (
            sampled_seed(table, column, sampling_seed) if seeds == "sample" else mean_over_seeds(table, column)
        )
        self.fidelity = column
        _check_accuracy(column, self._accuracies, table.columns, table.origin)
        default = f"train_seconds@{column.partition('@')[2].partition('/')[0]}"
        if seconds_column is None and default in table.columns:
            seconds_column = default
        self._seconds = np.zeros(len(table)) if seconds_column is None else table.column(seconds_column)
        self.settings: Mapping[str, Json] = {
            "table": table.origin,
            "column": column,
            "seconds_column": seconds_column,
            "seeds": seeds,
            "sampling_seed": sampling_seed,
        }

    def estimate(self, architectures: Sequence[Architecture]) -> list[Estimate | Failure]:
        """Return one result for each architecture, in order."""
        rows = self._lookup.rows(architectures)
        accuracies = self._accuracies[rows].tolist()
        seconds = np.nan_to_num(self._seconds[rows]).tolist()
        results: list[Estimate | Failure] = []
        for i, row in enumerate(rows.tolist()):
            known = row >= 0 and accuracies[i] == accuracies[i]
            results.append(Estimate(accuracies[i], seconds[i]) if known else self._unknown(architectures[i], row))
        return results

    # Stages ----------------------------------------------------------------------------------------------------

    @property
    def lengths(self) -> list[int]:
        """The numbers of this column and of those like it, up to its own; see `rlnas.interfaces.StagedProxy`.

        They are trainings of their own, taken for points of one. Those whose cost the table does not say are left out
        where it says that of this one.

        Raises:
            ConfigError: The column's name has no number.
        """
        whole = _LENGTH.search(self.fidelity)
        if whole is None:
            raise ConfigError(
                f"proxy.column={self.fidelity} does not say how long that training is, so that it has no stages; "
                "choose a column such as val_accuracy@200, or stopping=none"
            )
        columns = self._lookup.table.columns
        known = {*columns, *(name.partition("/")[0] for name in columns)}
        numbers = {int(found[1]) for name in known if (found := _LENGTH.search(name)) is not None}
        having = [number for number in numbers if {name for name in self._columns(number) if name} <= known]
        return [*sorted(number for number in having if number < int(whole[1])), int(whole[1])]

    def stage(self, length: int, folder: Path | None) -> TableProxy:  # noqa: ARG002  nothing is trained
        """Return the proxy of the column of a shorter training; see `rlnas.interfaces.StagedProxy`."""
        column, seconds = self._columns(length)
        space, path, how, sampling_seed = self._arguments
        return TableProxy(
            space, path=path, column=str(column), seconds_column=seconds, seeds=how, sampling_seed=sampling_seed
        )

    def _columns(self, length: int) -> tuple[str, str | None]:
        """Return the columns of accuracy and seconds of a training of another length; seconds None where unsaid."""
        names = (self.fidelity, self.settings["seconds_column"])
        column, seconds = (name and _LENGTH.sub(f"@{length}", str(name), count=1) for name in names)
        return str(column), seconds

    def _unknown(self, architecture: Architecture, row: int) -> Failure:
        what = f"no {self.fidelity}" if row >= 0 else "no row"
        space = self._lookup.space
        return Failure("invalid", f"{self._lookup.table.origin} has {what} for {space.describe(architecture)}")


def _check_sampling(seeds: str, sampling_seed: int) -> None:
    if seeds not in ("mean", "sample"):
        raise ConfigError(f"proxy.seeds={seeds!r} is unknown; choose mean or sample")
    if sampling_seed < 0:
        raise ConfigError(f"proxy.sampling_seed={sampling_seed} is negative; give 0 or more")
    if sampling_seed and seeds != "sample":
        raise ConfigError(
            f"proxy.sampling_seed={sampling_seed} has no effect: nothing is drawn; add proxy.seeds=sample or "
            "leave it out"
        )


def _check_accuracy(name: str, values: Float32Array, columns: Sequence[str], origin: str) -> None:
    known = values[~np.isnan(values)]
    if len(known) and (known.min() < 0.0 or known.max() > 1.0):
        raise TableError(
            f"column {name!r} of {origin} goes from {known.min():g} to {known.max():g}; an accuracy is a fraction in "
            f"[0, 1]: choose another column ({', '.join(columns)}), or divide percents by 100"
        )
    if not name.startswith("test"):
        return
    validation = [column for column in columns if column.startswith("val_accuracy")]
    if validation:
        raise TableError(
            f"column {name!r} of {origin} is of the test split, which no search may see; "
            f"search by one of {', '.join(validation)}"
        )
    _logger.warning("%s has no validation accuracy: this search sees test accuracies (%s)", origin, name)
