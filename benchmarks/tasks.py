"""Real searches on real data, each by one command: what is found, against the space's references and random search.

Each search is the command `rlnas train` in a process of its own, with a task (images, sound, text) and a space that
fits it; searches of one task share one store, so that what was trained for one is not trained again. The wall time is
that of a whole command with an empty store. Judged is the architecture that the search chose by its validation
accuracy: the mean test accuracy of trainings of the same length with other seeds, which nothing has seen or chosen by;
the references of the space are judged in the same way.

The data files lie in the folder `$RLNAS_DATA` (unset: `../shared/data`); a task whose file is missing is left out.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from benchmarks import reporting
from rlnas.data.task import Task
from rlnas.interfaces import Failure
from rlnas.parts import make
from rlnas.proxies.training import TrainingProxy
from rlnas.results import CONFIG, read_best
from rlnas.space import Architecture, SearchSpace

COMMON = ("device=none", "reward=accuracy", "objectives=null", "executor.workers=1", "tracker=none")


@dataclass(frozen=True)
class Setting:
    """One task and the space that is searched for it.

    Attributes:
        overrides: Of ``rlnas train``; ``{file}`` stands for the data file.
        file: Its name; None: the data ships with the package.
    """

    overrides: tuple[str, ...]
    file: str | None = None


SETTINGS: Mapping[str, Setting] = {
    "digits": Setting(("space=chain", "dataset=digits", "proxy.epochs=4")),
    "mnist": Setting(
        (
            *("space=cell201", "space.num_cells=1", "space.channels=8"),
            *("dataset=npz", "dataset.path={file}", "dataset.max_examples=1000", "proxy.epochs=4"),
        ),
        "mnist.npz",
    ),
    "fsdd": Setting(
        (
            *("space=chain", "space.num_layers=5", "space.widths=[8,16,32]", "dataset=audio", "dataset.path={file}"),
            *("dataset.max_examples=1000", "dataset.mels=20", "dataset.hop_ms=20", "proxy.epochs=4"),
        ),
        "fsdd.npz",
    ),
    "rt_polarity": Setting(
        (
            *("space=transformer", "space.widths=[32,64]", "space.depths=[1,2,3]", "dataset=text"),
            *("dataset.path={file}", "dataset.max_examples=2500", "dataset.length=32", "proxy.epochs=3"),
        ),
        "rt_polarity.csv",
    ),
}


@dataclass
class Found:
    """What the searches of one task by one agent have found, a value for each seed.

    Attributes:
        validation: Accuracy that the search saw.
        test: Mean test accuracy of the chosen architecture over further trainings.
        seconds: Wall time of the command; NaN where the store already knew some of it.
    """

    validation: list[float] = field(default_factory=list)
    test: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


class Judge:
    """Trains architectures anew and looks at the test split; each architecture once.

    Args:
        config: Of a run of the task.
        seeds: Of the trainings; none is that of a search.
    """

    def __init__(self, config: DictConfig, seeds: Sequence[int]) -> None:
        self.task: Task = make(config.dataset)
        self.space: SearchSpace = make(config.space)
        self._known: dict[Architecture, float] = {}
        self._proxies = []
        for seed in seeds:
            node = OmegaConf.merge(config.proxy, {"training_seed": seed})
            self._proxies.append(make(node, space=self.space, task=self.task))  # type: ignore[arg-type]

    def test_accuracy(self, architecture: Architecture) -> float:
        """Return the mean test accuracy over the seeds."""
        canonical = self.space.canonical_architecture(architecture)
        if canonical not in self._known:
            self._known[canonical] = float(np.mean([self._train(proxy, canonical) for proxy in self._proxies]))
        return self._known[canonical]

    def _train(self, proxy: TrainingProxy, architecture: Architecture) -> float:
        result = proxy.train_once(architecture, self.task.test)
        if isinstance(result, Failure):
            sys.exit(f"{self.space.describe(architecture)} failed when it was trained again: {result.message}")
        return result[1][0]


def main() -> None:
    """Search every task, print the table and the figures."""
    options = reporting.parser(__doc__ or "")
    options.add_argument("--tasks", default=",".join(SETTINGS), help="comma-separated")
    options.add_argument("--agents", default="ppo,screened,random", help="comma-separated; random is the baseline")
    options.add_argument("--seeds", type=int, default=None, help="searches by each agent; 3, or 2 with --quick")
    options.add_argument("--evaluations", type=int, default=None, help="of each search; 40, or 6 with --quick")
    options.add_argument("--judged", type=int, default=3, help="further trainings of each chosen architecture")
    args = options.parse_args()
    args.seeds = args.seeds or (2 if args.quick else 3)
    args.evaluations = args.evaluations or (6 if args.quick else 40)
    names = args.tasks.split(",")
    if unknown := [name for name in names if name not in SETTINGS]:
        options.error(f"no task {', '.join(unknown)}; choose from {', '.join(SETTINGS)}")
    figures: dict[str, Any] = {"benchmark": "tasks", "evaluations": args.evaluations, "tasks": {}}
    for name in names:
        file = SETTINGS[name].file
        if file is not None and not (reporting.data_dir() / file).is_file():
            print(f"{name}: left out, no {file} in {reporting.data_dir()}")
            continue
        figures["tasks"][name] = search_task(args, name)
    reporting.finish(args, figures)


def search_task(args: argparse.Namespace, name: str) -> dict[str, Any]:
    """Search one task by all agents with all seeds, print and return what was found."""
    setting = SETTINGS[name]
    file = None if setting.file is None else (reporting.data_dir() / setting.file).resolve()
    overrides = [text.format(file=file) for text in setting.overrides]
    shown = " ".join(overrides).replace(str(file), str(setting.file))
    print(f"{name}: rlnas train {shown} budget.evaluations={args.evaluations}")
    found = {agent: Found() for agent in args.agents.split(",")}
    judge: Judge | None = None
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(args.seeds):
            for agent in found:
                run = Path(folder, f"{agent}-{seed}")
                seconds = train(args, run, [*overrides, f"agent={agent}", f"seed={seed}"], is_fresh=seed == 0)
                judge = judge or Judge(OmegaConf.load(run / CONFIG), range(1, 1 + args.judged))  # type: ignore[arg-type]
                note(found[agent], run, seconds, judge)
                print(f"  {agent}, seed {seed}: {found[agent].test[-1]:.4f}, {seconds:.0f} s", file=sys.stderr)
    assert judge is not None
    return show(found, judge)


def train(args: argparse.Namespace, run: Path, overrides: Sequence[str], *, is_fresh: bool) -> float:
    """Search once and return the wall seconds; only the first search of an agent has a store of its own."""
    store = run.parent / (f"{run.name}.sqlite" if is_fresh else "shared.sqlite")
    ending = [f"budget.evaluations={args.evaluations}", f"store.path={store}", f"hydra.run.dir={run}"]
    command = [sys.executable, "-m", "rlnas", "train", *COMMON, *overrides, *ending]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return time.perf_counter() - started if is_fresh else float("nan")


def note(found: Found, run: Path, seconds: float, judge: Judge) -> None:
    """Add what one search has found."""
    best = read_best(run)
    [fidelity] = [key for key in best if key.startswith("val_accuracy")]
    found.validation.append(best[fidelity])
    found.test.append(judge.test_accuracy(Architecture(tuple(best["architecture"]))))
    found.seconds.append(seconds)


def show(found: Mapping[str, Found], judge: Judge) -> dict[str, Any]:
    """Print and return the figures of one task."""
    random = found.get("random")
    rows, figures = [], {}
    for agent, one in found.items():
        difference = "" if random is None or one is random else reporting.spread(np.subtract(one.test, random.test), 4)
        seconds = f"{np.nanmean(one.seconds):.0f}"
        rows.append([agent, reporting.spread(one.validation, 4), reporting.spread(one.test, 4), difference, seconds])
        figures[agent] = vars(one)
    for name, architecture in judge.space.references().items():
        accuracy = judge.test_accuracy(architecture)
        rows.append([f"reference {name}", "", f"{accuracy:.4f}", "", ""])
        figures[name] = {"test": accuracy}
    header = ["", "validation, as searched", "test, trained anew", "minus random", "wall time, s"]
    reporting.print_table(header, rows)
    print()
    return figures


if __name__ == "__main__":
    main()
