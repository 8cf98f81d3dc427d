"""Every space on every kind of task that fits it: random architectures are exported, checked, loaded again, compared.

For each pair so many random architectures are built and get statistics and weights that are not those of a fresh
network. Each is written as ``rlnas export`` writes it: as ONNX of dynamic batch, which the checker of ONNX must accept,
and as a Python module of plain torch with its weights. Both are loaded again, in ONNX Runtime and in torch, and run
with batches of one and of three; their logits must be those of the network, up to 1e-4 of the largest of an example.
Ends with exit code 1 if anything is wrong.
"""

from __future__ import annotations

import re
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks import reporting
from benchmarks.breadth import TASKS, arguments, fits, make_space
from rlnas.data.task import Split, Task, finished_task
from rlnas.errors import ExportError
from rlnas.export import parity
from rlnas.export.exporting import FORMATS, MODULE, ONNX, write_network
from rlnas.nets.inputs import random_inputs
from rlnas.space import Architecture, SearchSpace, TaskSpec

_EXAMPLES = 4
_BATCHES = (slice(0, 1), slice(1, 4))
_NOT_ALONE = re.compile(r"^\s*(from|import) rlnas", re.MULTILINE)


@dataclass
class Seen:
    """What the architectures of one pair have shown.

    Attributes:
        differences: By file, the largest relative difference of each architecture.
        seconds: Of writing each, in both formats.
        lines: Of each module.
        problems: How often what was wrong.
    """

    differences: dict[str, list[float]] = field(default_factory=lambda: {ONNX: [], MODULE: []})
    seconds: list[float] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    problems: Counter[str] = field(default_factory=Counter)


def task_of(spec: TaskSpec, network: nn.Module, generator: torch.Generator) -> Task:
    """Return a task of random inputs; numbers say how they are normalised."""
    [inputs] = random_inputs(network, [spec.input_shape], batch=_EXAMPLES, generator=generator)
    split = Split(inputs.numpy(), np.arange(_EXAMPLES) % spec.num_classes)
    channels = spec.input_shape[0]
    preparation = {} if spec.vocabulary_size else {"mean": [0.5] * channels, "std": [0.25] * channels}
    return finished_task(
        spec.name,
        [split] * 3,
        num_classes=spec.num_classes,
        vocabulary_size=spec.vocabulary_size,
        preparation=preparation,
    )


def lived_in(space: SearchSpace, architecture: Architecture, spec: TaskSpec, seed: int) -> nn.Module:
    """Return a network whose statistics and biases are not those of a fresh one."""
    torch.manual_seed(seed)
    network = space.build(architecture, spec)
    with torch.no_grad():
        network.train()(*random_inputs(network, [spec.input_shape], batch=_EXAMPLES))
        for parameter in network.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return network.eval()


@contextmanager
def folder() -> Iterator[Path]:
    """A folder for one export."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def look(network: nn.Module, task: Task, seen: Seen) -> None:
    """Export a network, load it again and compare.

    Raises:
        ExportError: It cannot be written or loaded.
    """
    with folder() as out:
        started = time.perf_counter()
        write_network(network, task, out, formats=FORMATS, title="A random network.")
        seen.seconds.append(time.perf_counter() - started)
        source = (out / MODULE).read_text()
        seen.lines.append(len(source.splitlines()))
        seen.problems["the module imports rlnas"] += bool(_NOT_ALONE.search(source))
        reference = parity.of_torch(network)
        for name, load in ((ONNX, parity.of_onnx), (MODULE, parity.of_module)):
            run = load(out / name)
            found = [parity.compare(reference, run, task.test.inputs[rows]) for rows in _BATCHES]
            seen.differences[name].append(max(one.max_relative for one in found))
            seen.problems[f"{name} computes something else"] += not all(one.holds for one in found)


def exported(space: SearchSpace, spec: TaskSpec, count: int, seed: int) -> Seen:
    """Return what so many random architectures have shown."""
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    seen = Seen()
    for number in range(count):
        network = lived_in(space, space.sample(rng), spec, number)
        try:
            look(network, task_of(spec, network, generator), seen)
        except ExportError as error:
            seen.problems[str(error)] += 1
    return seen


def row_of(name: str, spec: TaskSpec, count: int, seen: Seen) -> Sequence[Any]:
    """Return one line of the table."""
    largest = [f"{max(seen.differences[file], default=float('nan')):.1e}" for file in (ONNX, MODULE)]
    median = [f"{1000 * statistics.median(seen.seconds):.0f}", f"{statistics.median(seen.lines):.0f}"]
    return [name, spec.name, count, sum(seen.problems.values()), *largest, *median]


def main() -> None:
    """Run the benchmark."""
    description = "Exports of random architectures of every space on every kind of task that fits it."
    args = arguments(description, architectures=50, quick=3)
    torch.set_num_threads(1)
    rows: list[Sequence[Any]] = []
    problems: Counter[str] = Counter()
    figures: dict[str, Any] = {}
    started = time.perf_counter()
    for name in args.spaces:
        space = make_space(name)
        for spec in (spec for spec in TASKS if fits(space, spec)):
            seen = exported(space, spec, args.architectures, args.seed)
            problems += seen.problems
            rows.append(row_of(name, spec, args.architectures, seen))
            figures[f"{name}, {spec.name}"] = {
                "architectures": args.architectures,
                "problems": dict(+seen.problems),
                "max_relative_difference": {file: max(found, default=None) for file, found in seen.differences.items()},
                "seconds_per_export": statistics.median(seen.seconds),
            }
    headers = ["space", "input", "architectures", "wrong", "ONNX off by", "module off by", "ms each", "lines"]
    reporting.print_table(headers, rows)
    for wrong, count in (+problems).items():
        print(f"{count} times: {wrong}")
    total = sum(pair["architectures"] for pair in figures.values())
    print(f"{total} architectures exported in two formats, {sum(problems.values())} wrong")
    seconds = time.perf_counter() - started
    reporting.finish(args, {"benchmark": "exporting", "pairs": figures, "seconds": seconds, "passed": not (+problems)})
    sys.exit(bool(+problems))


if __name__ == "__main__":
    main()
