"""Weights & Biases as a tracker; the only module that imports ``wandb``."""

from __future__ import annotations

import gc
import json
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from rlnas.errors import ConfigError
from rlnas.space import Json
from rlnas.tracking.wandb_files import count_rows

if TYPE_CHECKING:
    import wandb

logger = logging.getLogger(__name__)

STEP = "search/evaluations"
"""The step axis of every scalar: the unique evaluations of the run so far."""

_RUN = "wandb/rlnas.json"
"""In the run folder: which W&B run it is, so that a search that is taken up again goes on with the same one."""

_INIT_SECONDS = 30.0
_FINISH_SECONDS = 120.0


class WandbTracker:
    """Records a run with Weights & Biases; a lost network or a full quota costs the record, never the search.

    In a sweep of W&B (``wandb agent``) the run is the one that the sweep has planned.

    Started again in the folder of a run it goes on with the same W&B run, behind its last row. Offline each process
    writes a folder of its own, all of one run: ``wandb sync`` joins them in the order in which they were begun.

    Args:
        project: W&B project.
        entity: Team or user; None takes the account's default.
        name: Run name; None lets W&B invent one.
        group: Joins runs, such as the jobs of a multirun.
        tags: Free labels.
        mode: ``offline`` writes below the run folder, to be uploaded later with ``wandb sync``; ``online`` needs an
            account and falls back to offline where the server cannot be reached; ``disabled`` records nothing.

    Attributes:
        num_recorded: Rows (scalars, tables and charts) of the W&B run from before `start`.
    """

    def __init__(
        self,
        project: str = "rlnas",
        entity: str | None = None,
        name: str | None = None,
        group: str | None = None,
        tags: Sequence[str] = (),
        mode: Literal["online", "offline", "disabled"] = "offline",
    ) -> None:
        if not project:
            raise ConfigError("tracker.project is empty; name a W&B project")
        self._options = {"project": project, "entity": entity, "name": name, "group": group, "tags": tuple(tags)}
        self._mode = mode
        self._run: wandb.Run | None = None
        self._row = 0
        self.num_recorded = 0

    def start(self, folder: Path, config: Mapping[str, Json]) -> None:
        """Open the W&B run; everything local lies in ``folder/wandb``.

        Raises:
            ConfigError: ``mode=online`` without an API key.
        """
        import wandb  # a second of import time that a run without this tracker does not owe

        settings = wandb.Settings(
            silent=True,
            console="off",  # the live line of progress belongs to the terminal
            save_code=False,
            init_timeout=_INIT_SECONDS,
            finish_timeout=_FINISH_SECONDS,
        )
        wandb.setup(settings=wandb.Settings(silent=True))  # its own chatter, advertisements among it, goes to its log
        start = {"dir": str(folder), "config": dict(config), "settings": settings, "reinit": "finish_previous"}
        known = _known_run(folder)
        if known is not None:
            start |= {"id": known, "resume": "allow"}
        try:
            self._run = wandb.init(mode=self._mode, **self._options, **start)  # type: ignore[arg-type]
        except wandb.errors.UsageError as error:
            raise ConfigError(
                f"W&B refuses to start with tracker.mode={self._mode} ({error}); run `wandb login`, or choose "
                "tracker.mode=offline and `wandb sync` later"
            ) from error
        except wandb.Error as error:
            logger.warning("W&B cannot be reached (%s): this run is recorded offline; `wandb sync` it later", error)
            self._run = wandb.init(mode="offline", **self._options, **start)  # type: ignore[arg-type]
        swept = self._swept()
        hidden = {name: node for name, node in config.items() if name in swept and isinstance(node, Mapping)}
        if hidden:  # what a sweep sets W&B lets nobody replace: agent=ppo stands where the keys of the agent would
            self._run.config.update({"resolved": hidden})  # type: ignore[no-untyped-call]
        self._run.define_metric(STEP, hidden=True)
        self._run.define_metric("*", step_metric=STEP)
        if self._mode != "disabled":
            is_online = not self._run.offline
            self.num_recorded = self._run.starting_step if is_online else count_rows(folder, self._run.id)
            (folder / _RUN).parent.mkdir(exist_ok=True)
            (folder / _RUN).write_text(json.dumps({"id": self._run.id}))
        self._row = self.num_recorded

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Record scalars against `STEP`."""
        self._log("scalars", {**metrics, STEP: step})

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Record a W&B table."""
        import wandb

        table = wandb.Table(columns=list(columns), data=[list(row) for row in rows])
        self._log(f"table {name}", {name: table})

    def log_front(self, name: str, cost: str, accuracy: str, rows: Sequence[tuple[float, float, str]]) -> None:
        """Record the front as a scatter chart."""
        import wandb

        table = wandb.Table(columns=[cost, accuracy, "architecture"], data=[list(row) for row in rows])
        chart = wandb.plot.scatter(table, x=cost, y=accuracy, title=f"Pareto front: {accuracy} over {cost}")
        self._log(f"chart {name}", {name: chart})

    def log_curves(
        self, name: str, axis: str, positions: Sequence[float], curves: Mapping[str, Sequence[float]]
    ) -> None:
        """Record curves as a line chart."""
        import wandb

        chart = wandb.plot.line_series(
            list(positions),
            [list(values) for values in curves.values()],
            keys=list(curves),
            title=name,
            xname=axis,
        )
        self._log(f"chart {name}", {name: chart})

    def log_summary(self, values: Mapping[str, Json]) -> None:
        """Record values in the summary of the W&B run."""
        self._keep("the summary", lambda run: run.summary.update(dict(values)))

    def log_files(self, name: str, kind: str, paths: Sequence[Path]) -> None:
        """Keep files and folders as one artifact."""
        import wandb

        def add(run: wandb.Run) -> None:
            artifact = wandb.Artifact(f"{name}-{run.id}", type=kind)
            for path in paths:
                if path.is_dir():
                    artifact.add_dir(str(path), name=path.name)
                else:
                    artifact.add_file(str(path))
            run.log_artifact(artifact)

        self._keep(f"artifact {name}", add)

    def finish(self, exit_code: int = 0) -> None:
        """Close the run; a second call does nothing."""
        self._keep("the end of the run", lambda run: run.finish(exit_code=exit_code))
        if self._run is not None:
            self._run = None
            _remove_leftovers()

    def _swept(self) -> set[str]:
        """Return the names of what a sweep of W&B has set for this run; none outside of sweeps."""
        path = None if self._run is None else self._run.settings.sweep_param_path
        if path is None or not Path(path).is_file():
            return set()
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        return set(content) if isinstance(content, dict) else set()

    def _log(self, what: str, row: Mapping[str, Any]) -> None:
        """Record a row under the next number: the run's own count starts anew with each process that is offline."""
        number = self._row
        self._row += 1
        self._keep(what, lambda run: run.log(dict(row), step=number, commit=True))

    def _keep(self, what: str, action: Callable[[wandb.Run], None]) -> None:
        """Do it if W&B lets us; the run folder has it all in any case."""
        import wandb

        if self._run is None:
            return
        try:
            action(self._run)
        except (wandb.Error, OSError, TimeoutError) as error:
            logger.warning("W&B did not take %s (%s: %s)", what, type(error).__name__, error)


def _remove_leftovers() -> None:
    """Let go of the temporary folders of tables and charts now, for W&B leaves them to the garbage collector."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # that they go this way is what it warns of
        gc.collect()


def _known_run(folder: Path) -> str | None:
    """Return the id of the W&B run that a run folder belongs to; None where there is none yet."""
    try:
        return str(json.loads((folder / _RUN).read_text())["id"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        logger.warning("%s is damaged (%s): the rest of this run becomes a W&B run of its own", folder / _RUN, error)
        return None
