"""The command line: composes a run from its configuration; the only caller of ``instantiate``."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import hydra
import torch
from gymnasium.vector import VectorEnv
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

import rlnas
from rlnas import config as configuration
from rlnas import results, summary
from rlnas.data import Task
from rlnas.errors import ConfigError, RlnasError
from rlnas.evaluation import Evaluator, Ledger, Store
from rlnas.interfaces import Agent, Device, Executor, Proxy, Reward
from rlnas.search import Observer, Search
from rlnas.space import SearchSpace
from rlnas.tracking.progress import Progress

logger = logging.getLogger(__name__)

USAGE = """\
rlnas: reinforcement-learning neural architecture search

  rlnas train [GROUP=OPTION | KEY=VALUE]...   search; `rlnas train --help` lists groups and keys
  rlnas show RUN                              the front and the best network of a run folder
  rlnas --version
"""

GIVEN = {
    "proxy": ("space", "task"),
    "device": ("space", "task"),
    "env": ("space", "evaluator", "reward", "target", "observer"),
    "agent": ("space", "seed"),
}
"""What a part may ask for by the name of a constructor argument; all else comes from its YAML node."""

BUG, BAD_INPUT, INTERRUPTED = 1, 2, 130


def main(arguments: Sequence[str], started: float) -> int:
    """Run a command and return the exit code: 0, or `BUG`, `BAD_INPUT`, `INTERRUPTED`.

    Args:
        arguments: The command and what follows it.
        started: ``time.perf_counter()`` at the start of the process.
    """
    command, rest = (arguments or ["--help"])[0], list(arguments[1:])
    if command in ("-h", "--help", "help"):
        return _say(USAGE)
    if command == "--version":
        return _say(f"rlnas {rlnas.__version__}\n")
    try:
        if command == "train":
            return train(rest, started)
        if command == "show":
            return show(rest)
        return _fail(f"there is no command {command!r}\n\n{USAGE}")
    except SystemExit as end:  # argparse has said what there is to say
        return int(end.code or 0)
    except KeyboardInterrupt:
        return _fail("interrupted before the search began; nothing was evaluated", INTERRUPTED)
    except Exception as error:
        if os.environ.get("RLNAS_DEBUG"):
            raise
        return _explain(error)


def train(arguments: Sequence[str], started: float) -> int:
    """Search as the configuration says; Hydra reads the arguments and makes the run folder."""
    configuration.check_import_names()
    configuration.register_schema()
    sys.path.append(str(Path.cwd()))  # for parts of the user's own; last, so that it hides nothing
    sys.argv = ["rlnas train", *arguments]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come to `main`, which prints them its own way
    exit_codes: list[int] = []

    def job(config: DictConfig) -> None:
        exit_codes.append(_run(config, started if not exit_codes else time.perf_counter()))

    with _terminated_like_interrupted():
        hydra.main(version_base="1.3", config_path=str(configuration.config_dir()), config_name="config")(job)()
    return max(exit_codes, default=0)


def show(arguments: Sequence[str]) -> int:
    """Print the front and the best network of a run folder."""
    if len(arguments) != 1:
        return _fail("give one run folder: rlnas show outputs/DATE/TIME")
    summary.print_run(Path(arguments[0]), _console())
    return 0


def _run(config: DictConfig, started: float) -> int:
    """Compose and run one job."""
    job = HydraConfig.get()
    folder = Path(job.runtime.output_dir)
    multirun = job.mode == RunMode.MULTIRUN
    results.claim(folder)
    try:
        search = compose(
            config, folder, job.overrides.task, started, group=Path(job.sweep.dir).name if multirun else None
        )
    except BaseException:
        results.discard(folder)
        raise
    torch.set_num_threads(1)  # controllers are tiny: a second thread only slows them and disturbs measurements
    outcome = search.run()
    summary.print_outcome(outcome, folder, _console())
    if outcome.interrupted and multirun:
        raise KeyboardInterrupt  # the user means the whole sweep
    return INTERRUPTED if outcome.interrupted else 0


def compose(
    config: DictConfig, folder: Path, overrides: Sequence[str], started: float, *, group: str | None = None
) -> Search:
    """Build every part of a run and check that they fit, before any compute.

    Args:
        config: As Hydra composed it.
        folder: The run folder; claimed.
        overrides: What the user wrote, each checked for an effect.
        started: ``time.perf_counter()`` at the start of the wall time.
        group: Joins the jobs of one multirun in the tracker.

    Raises:
        ConfigError: A part is unknown, misconfigured, or does not fit another.
    """
    configuration.check_config(config, overrides, GIVEN)
    space: SearchSpace = _make(config.space)
    task: Task | None = _make(config.dataset) if configuration.reads_task(config) else None
    reward: Reward = _make(config.reward)
    resources = ExitStack()
    evaluator = _make_evaluator(config, space, task, reward, resources)

    def make_env(
        evaluator: Evaluator | None, *, target: float | None, observer: Observer | None
    ) -> VectorEnv[Any, Any, Any]:
        env: VectorEnv[Any, Any, Any] = _make(
            config.env, space=space, evaluator=evaluator, reward=reward, target=target, observer=observer
        )
        return env

    make_env(None, target=None, observer=None).close()  # finds what is wrong with it before any compute
    agent = _make(config.agent, space=space, seed=config.seed)
    if not isinstance(agent, Agent):
        missing = [name for name in ("learn", "propose", "save", "load") if not hasattr(agent, name)]
        raise ConfigError(
            f"agent._target_={config.agent._target_} is no agent: it has no {', '.join(missing)}; see Agent in "
            "rlnas/interfaces.py, and check yours with rlnas.testing.check_agent"
        )
    if group is not None and "group" in config.tracker and config.tracker.group is None:
        config.tracker.group = group
    resolved = configuration.plain(config)
    if task is None:
        resolved["dataset"] = None
    results.write_atomically(folder / results.CONFIG, OmegaConf.to_yaml(OmegaConf.create(resolved)))
    return Search(
        evaluator,
        reward,
        agent,
        make_env,
        _make(config.tracker),
        resources=resources,
        folder=folder,
        config=resolved,
        task=None if task is None else task.spec,
        started=started,
        progress=Progress(Console(stderr=True)),
    )


def _make_evaluator(
    config: DictConfig, space: SearchSpace, task: Task | None, reward: Reward, resources: ExitStack
) -> Evaluator:
    proxy: Proxy = _make(config.proxy, space=space, task=task)
    device: Device | None = None if config.device is None else _make(config.device, space=space, task=task)
    if reward.cost is not None and (device is None or reward.cost not in device.cost_names):
        known = "there is no device" if device is None else f"device {device.name} gives {', '.join(device.cost_names)}"
        raise ConfigError(
            f"the reward reads {reward.cost}, but {known}; choose reward=accuracy, another cost or another device"
        )
    executor: Executor = _make(config.executor)
    resources.callback(executor.close)
    store: Store | None = None
    if config.store.path is not None and (proxy.reusable or (device is not None and device.reusable)):
        store = Store(Path(config.store.path))
        resources.callback(store.close)
    return Evaluator(
        space,
        proxy,
        device,
        executor,
        Ledger(**configuration.plain(config.budget)),
        store=store,
        task_key="" if task is None else task.key,
        canonical=config.evaluator.canonical,
    )


def _make(node: DictConfig, **available: Any) -> Any:
    """Instantiate a node with those of the available collaborators that its target asks for.

    They are passed to a partial: as arguments of ``instantiate`` Hydra would turn dataclasses into dicts.
    """
    factory = instantiate(node, _convert_="all", _partial_=True)
    return factory(**configuration.accepted(factory.func, available))


@contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """Let SIGTERM end a run as Ctrl-C does: everything found so far is written."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _explain(error: Exception) -> int:
    """Print what is wrong in one screen; the traceback goes to the log file of the run, if there is one."""
    logger.debug("the run failed", exc_info=error)
    if isinstance(error, RlnasError):
        return _fail(str(error))
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        return _fail(configuration.readable(error))
    if isinstance(error, OSError):
        reason = f"{error.filename or 'a file'}: {error.strerror or error}"
        return _fail(f"{reason}; check the path, or choose another run folder with hydra.run.dir=FOLDER")
    logger.error("the run failed", exc_info=error)
    return _fail(
        f"an error that rlnas did not expect: {type(error).__name__}: {error}\nRLNAS_DEBUG=1 shows the traceback", BUG
    )


def _console() -> Console:
    """Standard output; wide where it is piped, for then nobody's window limits it."""
    console = Console()
    return console if console.is_terminal else Console(width=160)


def _say(text: str) -> int:
    sys.stdout.write(text)
    return 0


def _fail(message: str, exit_code: int = BAD_INPUT) -> int:
    sys.stderr.write(f"rlnas: {message}\n")
    return exit_code
