"""Every space on every kind of task that fits it: random architectures are built and train a step.

For each pair so many random architectures are built; each must give a finite loss and finite gradients on a batch of
two, and its counted multiply-adds must be those of torch's own flop counter. A space that says it does not build for a
kind of input is left out of it. Ends with exit code 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf
from torch.nn import functional

from benchmarks import reporting
from rlnas.config import config_dir, target_of
from rlnas.errors import SpaceError
from rlnas.nets.counting import count_macs
from rlnas.nets.inputs import random_inputs
from rlnas.space import Architecture, SearchSpace, TaskSpec
from rlnas.testing.spaces import flop_counter_macs

TASKS = (
    TaskSpec("grey image", (1, 8, 8), 10),
    TaskSpec("colour image", (3, 32, 24), 5),
    TaskSpec("spectrogram", (1, 40, 51), 10),
    TaskSpec("wave", (1, 4000), 10),
    TaskSpec("tokens", (24,), 2, vocabulary_size=500),
)
_BATCH = 2


def arguments(description: str, *, architectures: int, quick: int) -> argparse.Namespace:
    """Parse the command line of a benchmark over spaces and kinds of tasks.

    Args:
        description: What it does.
        architectures: Of each pair.
        quick: At most so many with ``--quick``.
    """
    parser = reporting.parser(description)
    parser.add_argument("--architectures", type=int, default=architectures, help="of each pair")
    parser.add_argument("--spaces", default="", help="comma-separated, of conf/space; empty for all")
    parser.add_argument("--seed", type=int, default=0, help="decides which")
    args = parser.parse_args()
    known = sorted(path.stem for path in (config_dir() / "space").glob("*.yaml"))
    args.spaces = args.spaces.split(",") if args.spaces else known
    if unknown := [name for name in args.spaces if name not in known]:
        parser.error(f"unknown spaces {unknown}; choose from {', '.join(known)}")
    args.architectures = min(args.architectures, quick) if args.quick else args.architectures
    return args


def make_space(name: str) -> SearchSpace:
    """Return a space of ``conf/space`` as it is there."""
    node = OmegaConf.to_container(OmegaConf.load(config_dir() / "space" / f"{name}.yaml"))
    assert isinstance(node, dict)
    settings = {str(key): value for key, value in node.items() if key != "_target_"}
    space: SearchSpace = target_of(node)(**settings)  # type: ignore[arg-type]
    return space


def fits(space: SearchSpace, task: TaskSpec) -> bool:
    """Return whether a space builds for a kind of input at all."""
    try:
        space.build(space.sample(np.random.default_rng(0)), task)
    except SpaceError:
        return False
    return True


def problem(space: SearchSpace, architecture: Architecture, task: TaskSpec) -> str | None:
    """Build, count and train one network for a step; return what is wrong."""
    network = space.build(architecture, task)
    if count_macs(network, task.input_shape) != flop_counter_macs(network, task.input_shape):
        return "the multiply-adds differ"
    logits = network.train()(*random_inputs(network, [task.input_shape], batch=_BATCH))
    if logits.shape != (_BATCH, task.num_classes):
        return f"the output has shape {tuple(logits.shape)}"
    loss = functional.cross_entropy(logits, torch.arange(_BATCH) % task.num_classes)
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    if not torch.isfinite(loss) or not all(bool(torch.isfinite(gradient).all()) for gradient in gradients):
        return "the loss or a gradient is not finite"
    return None


def main() -> None:
    """Run the benchmark."""
    description = "Random architectures of every space on every kind of task that fits it."
    args = arguments(description, architectures=200, quick=5)
    torch.set_num_threads(1)
    rows: list[list[Any]] = []
    problems: Counter[str] = Counter()
    figures: dict[str, Any] = {}
    for name in args.spaces:
        space = make_space(name)
        for task in (task for task in TASKS if fits(space, task)):
            rng = np.random.default_rng(args.seed)
            started = time.perf_counter()
            chosen = [space.sample(rng) for _ in range(args.architectures)]
            found = Counter(wrong for one in chosen if (wrong := problem(space, one, task)) is not None)
            seconds = time.perf_counter() - started
            problems += found
            rows.append([name, task.name, len(chosen), len({*chosen}), sum(found.values()), f"{seconds:.0f}"])
            figures[f"{name}, {task.name}"] = {"architectures": len(chosen), "problems": dict(found)}
    reporting.print_table(["space", "input", "architectures", "different", "wrong", "seconds"], rows)
    for wrong, count in problems.items():
        print(f"{count} times: {wrong}")
    reporting.finish(args, {"benchmark": "breadth", "pairs": figures, "passed": not problems})
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
