"""Random actions with and without masks in every registered space: nothing raises, and all that is built works.

Each architecture that was completed is built, run forward and backward with a finite loss and finite gradients, and its
counted multiply-adds are compared with torch's own flop counter. Ends with exit code 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import gymnasium as gym
import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import reporting
from envs import ArchitectureVectorEnv
from envs.registration import IDS
from rlnas.interfaces import Estimate
from rlnas.nets.counting import count_macs, count_params
from rlnas.space import Architecture, BoolArray, IntArray, Json, SearchSpace, TaskSpec

TASK = TaskSpec("digits", (1, 8, 8), 10)
NUM_ENVS = 32
BATCH = 2


class SizeProxy:
    """An accuracy for nothing: grows with the number of parameters, which a network on the meta device has too."""

    fidelity = "val_accuracy@0"
    settings: Mapping[str, Json] = {}
    reusable = False

    def __init__(self, space: SearchSpace) -> None:
        self._space = space

    def estimate(self, architectures: Sequence[Architecture]) -> Iterable[Estimate]:
        """Yield p / (p + 100,000) for p parameters."""
        for architecture in architectures:
            with torch.device("meta"):
                params = count_params(self._space.build(architecture, TASK))
            yield Estimate(params / (params + 100_000), 0.0)


@dataclass
class Played:
    """What random play of one space brought about."""

    space: SearchSpace
    counts: Counter[str] = field(default_factory=Counter)
    completed: set[tuple[int, ...]] = field(default_factory=set)


def main() -> None:
    """Play, build, compare; print the table and the figures."""
    options = reporting.parser(__doc__ or "")
    options.add_argument("--actions", type=int, default=None, help="with masks, and again without; 100000 or 3000")
    options.add_argument("--seed", type=int, default=0, help="of actions, weights and inputs")
    args = options.parse_args()
    if args.actions is None:
        args.actions = 3_000 if args.quick else 100_000
    torch.set_num_threads(1)
    rows, totals = [], Counter[str]()
    start = time.perf_counter()
    for env_id in IDS:
        counts = check_id(env_id, args)
        rows.append([env_id, *counts.values()])
        totals.update(counts)
    reporting.print_table(["space", *totals], rows)
    wrong = {name: totals[name] for name in ("not_finite", "macs_differ") if totals[name]}
    figures = {"benchmark": "random_actions", **totals, "seconds": time.perf_counter() - start, "passed": not wrong}
    reporting.finish(args, figures)
    sys.exit(1 if wrong else 0)


def check_id(env_id: str, args: argparse.Namespace) -> Counter[str]:
    """Play a share of the actions in one space and check what was completed."""
    made = gym.make_vec(env_id, num_envs=NUM_ENVS).unwrapped
    assert isinstance(made, ArchitectureVectorEnv)
    played = Played(made.space)
    share = -(-args.actions // len(IDS) // NUM_ENVS)
    for masked in (True, False):
        env = gym.make_vec(env_id, num_envs=NUM_ENVS, proxy=SizeProxy(made.space)).unwrapped
        assert isinstance(env, ArchitectureVectorEnv)
        play(env, played, share, np.random.default_rng([args.seed, masked]), masked=masked)
    torch.manual_seed(args.seed)
    counts = Counter(played.counts)
    counts.update({"unique": len(played.completed), "not_finite": 0, "macs_differ": 0})
    for number, indices in enumerate(sorted(played.completed), 1):
        check_network(played.space, Architecture(indices), counts)
        if sys.stderr.isatty() and number % 100 == 0:
            print(f"\r{env_id}: {number} of {len(played.completed)} networks", end="", file=sys.stderr)
    return counts


def play(env: ArchitectureVectorEnv, played: Played, steps: int, rng: np.random.Generator, *, masked: bool) -> None:
    """Take `steps` random actions in each environment; whatever raises ends the benchmark."""
    kind = "masked" if masked else "unmasked"
    env.reset(seed=0)
    for _ in range(steps):
        masks = env.action_masks()
        actions = random_actions(masks if masked else np.ones_like(masks), rng)
        _, rewards, terminated, truncated, infos = env.step(actions)
        assert np.isfinite(rewards).all()
        assert not truncated.any()
        final = infos.get("final_info", {})
        completed: BoolArray = final.get("_architecture", np.zeros(env.num_envs, dtype=np.bool_))
        assert (terminated >= completed).all()
        if completed.any():
            played.completed.update(map(tuple, final["architecture"][completed].tolist()))
        played.counts.update({f"{kind}_actions": env.num_envs, f"{kind}_completed": int(completed.sum())})
    played.counts[f"{kind}_illegal"] = env.num_invalid
    assert not (masked and env.num_invalid)


def random_actions(masks: BoolArray, rng: np.random.Generator) -> IntArray:
    """Return one action for each row of masks, all legal ones equally likely."""
    actions: IntArray = np.where(masks, rng.random(masks.shape), -1.0).argmax(axis=1)
    return actions


def check_network(space: SearchSpace, architecture: Architecture, counts: Counter[str]) -> None:
    """Build and run a network; count it as wrong where a number is not finite or the multiply-adds differ."""
    network = space.build(architecture, TASK)
    inputs = torch.randn(BATCH, *TASK.input_shape)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:  # torch counts no fused attention
        logits = network(inputs)
    loss = torch.nn.functional.cross_entropy(logits, torch.arange(BATCH))
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    finite = bool(torch.isfinite(loss)) and all(bool(torch.isfinite(g).all()) for g in gradients)
    counts["not_finite"] += not finite
    expected, found = counter.get_total_flops() // (2 * BATCH), count_macs(network, TASK.input_shape)
    if expected != found:
        counts["macs_differ"] += 1
        print(f"{space.describe(architecture)}: {found} counted, {expected} by torch", file=sys.stderr)


if __name__ == "__main__":
    main()
