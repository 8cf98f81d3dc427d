"""Check that an agent keeps its contract: run it on your own before a search does."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from rlnas.interfaces import Agent, Budget
from rlnas.space import IntArray, SearchSpace
from rlnas.testing.conformance import require

if TYPE_CHECKING:
    from gymnasium.vector import VectorEnv

MakeAgent: TypeAlias = Callable[[SearchSpace, int], Agent]
"""A space and a seed to a new agent; always with the same settings."""

MakeEnv: TypeAlias = "Callable[[int | None], tuple[VectorEnv[Any, Any, Any], Budget]]"
"""A number of evaluations to a new environment with an evaluator and its ledger; None: without an evaluator (the
ledger is then not used)."""

_NUM_PROPOSALS = 37  # no multiple of a usual number of environments


@dataclass
class _Calls:
    """A callback that remembers."""

    metrics: list[Mapping[str, float]] = field(default_factory=list)

    def __call__(self, metrics: Mapping[str, float]) -> None:
        self.metrics.append(dict(metrics))


def check_agent(make_agent: MakeAgent, make_env: MakeEnv, *, evaluations: int = 60, learns: bool = True) -> None:
    """Check all rules of `Agent`; takes seconds where evaluations are cheap.

    Args:
        make_agent: Makes the agent to check; the seed must decide all that is random in it.
        make_env: Always of one space, one way to score, and one number of environments. The rewards must differ
            between architectures, and the space must have more than `evaluations` of them.
        evaluations: How many an agent may spend in each of the few runs.
        learns: Whether its policy is expected to change; False for agents that only sample.

    Raises:
        ConformanceError: The agent breaks a rule; the message names the rule.
    """
    env, _ = make_env(None)
    space = getattr(env.unwrapped, "space", None)
    require(isinstance(space, SearchSpace), "make_env must give an environment with `space` on its unwrapped one")
    assert isinstance(space, SearchSpace)  # noqa: S101  (for the type checker; checked above)
    require(isinstance(make_agent(space, 0), Agent), "an agent needs the methods learn, propose, save and load")
    _check_proposals(make_agent(space, 0), make_env, space, "before it has learned")
    agent = make_agent(space, 0)
    before = _proposals(agent, make_env)
    _check_learning(agent, make_env, evaluations)
    after = _proposals(agent, make_env)
    _check_proposals(agent, make_env, space, "after it has learned")
    if learns:
        require(not np.array_equal(before, after), "an update must move the policy: it proposes the same as before")
    _check_seeds(make_agent, make_env, space, evaluations)
    _check_checkpoint(make_agent, make_env, space, evaluations)


def _check_proposals(agent: Agent, make_env: MakeEnv, space: SearchSpace, when: str) -> None:
    env, _ = make_env(None)
    for deterministic in (False, True):
        for count in (1, env.num_envs, _NUM_PROPOSALS):
            found = agent.propose(env, count, deterministic=deterministic)
            what = f"propose({count}, deterministic={deterministic}) {when}"
            shape = (count, space.num_choices)
            require(np.shape(found) == shape, f"{what} must return the shape {shape}, got {np.shape(found)}")
            require(np.issubdtype(found.dtype, np.integer), f"{what} must return integers, got {found.dtype}")
            limits = np.asarray(space.num_candidates)
            in_range = bool(((found >= 0) & (found < limits)).all())
            require(in_range, f"{what} returned a candidate that a choice does not have")
            illegal = [row for row in found.tolist() if not space.is_legal(row)]
            require(not illegal, f"{what} returned architectures that are not legal, such as {illegal[:1]}")


def _check_learning(agent: Agent, make_env: MakeEnv, evaluations: int) -> None:
    env, ledger = make_env(evaluations)
    calls = _Calls()
    agent.learn(env, ledger, calls)
    require(ledger.exhausted, "learn must go on until ledger.exhausted")
    require(len(calls.metrics) > 0, "learn must call the callback at least once in each update")
    for metrics in calls.metrics:
        for name, value in metrics.items():
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            require(number and bool(np.isfinite(value)), f"the callback got {name}={value!r}; send finite numbers only")
    num_calls = len(calls.metrics)
    agent.learn(env, ledger, calls)
    require(len(calls.metrics) == num_calls, "learn must return at once where the ledger is exhausted already")


def _check_seeds(make_agent: MakeAgent, make_env: MakeEnv, space: SearchSpace, evaluations: int) -> None:
    disturbed = np.random.get_state(legacy=True)  # noqa: NPY002  (agents must not depend on it)
    found = []
    for seed in (0, 0, 1):
        np.random.random(3)  # noqa: NPY002
        agent, calls = make_agent(space, seed), _Calls()
        env, ledger = make_env(evaluations)
        agent.learn(env, ledger, calls)
        found.append((_proposals(agent, make_env).tolist(), calls.metrics))
    np.random.set_state(disturbed)  # noqa: NPY002
    require(found[0][0] == found[1][0], "the same seed must give the same proposals after the same learning")
    require(found[0] == found[1], "the same seed must give the same metrics")
    require(found[0] != found[2], "another seed must give another course of learning, or other proposals")


def _check_checkpoint(make_agent: MakeAgent, make_env: MakeEnv, space: SearchSpace, evaluations: int) -> None:
    agent, fresh = _learned(make_agent(space, 0), make_env, evaluations), make_agent(space, 0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        agent.save(folder)
        require(any(folder.iterdir()), "save must write into the folder it is given")
        pickles = [path.name for path in folder.rglob("*") if path.suffix in {".pkl", ".pickle"}]
        require(not pickles, f"a checkpoint must hold no pickle, found {pickles}")
        fresh.load(folder)
    same = np.array_equal(_proposals(agent, make_env), _proposals(fresh, make_env))
    require(same, "an agent must propose the same after save and load")
    went_on, resumed = (_proposals(_learned(one, make_env, evaluations), make_env) for one in (agent, fresh))
    require(np.array_equal(went_on, resumed), "an agent must go on learning in the same way after save and load")


def _learned(agent: Agent, make_env: MakeEnv, evaluations: int) -> Agent:
    env, ledger = make_env(evaluations)
    agent.learn(env, ledger, _Calls())
    return agent


def _proposals(agent: Agent, make_env: MakeEnv) -> IntArray:
    env, _ = make_env(None)
    return agent.propose(env, _NUM_PROPOSALS)


__all__ = ["check_agent"]
