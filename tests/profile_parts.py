"""A device whose answers are known, and profiles made with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import nn

from rlnas.devices.profiles import Profile
from rlnas.devices.timing import Latency
from rlnas.interfaces import Failure
from rlnas.nets.counting import count_macs, count_params
from rlnas.profiling import Journal, ProfilePlan, Profiling
from rlnas.space import Architecture, Block, Json, SearchSpace, TaskSpec

OVERHEAD_MS = 0.02
FIXED_MS = 0.03
FACTORS = {"conv3x3": 0.7, "sepconv3x3": 1.3, "maxpool": 0.5}
SPEC = TaskSpec("images", (1, 8, 8), 3)
NODE: Mapping[str, Json] = {"_target_": "rlnas.devices.host.HostDevice", "rounds": 2}


class WholeNetworks:
    """Measures networks as a known sum over their blocks, with noise.

    Args:
        space: Of the networks.
        spec: What they are built for.
        noise: Standard deviation of the logarithm.
    """

    name = "synthetic"
    cost_names = ("latency_ms", "latency_ms_low", "latency_ms_high")
    reusable = True

    def __init__(self, space: SearchSpace, spec: TaskSpec = SPEC, *, noise: float = 0.0) -> None:
        self.space = space
        self.spec = spec
        self.noise = noise
        self.measured: list[Architecture] = []
        self.rng = np.random.default_rng(0)
        self._times: dict[Block, float] = {}

    @property
    def settings(self) -> Mapping[str, Json]:
        return {"device": self.name, "noise": self.noise}

    def measure(self, architectures: Sequence[Architecture]) -> list[Mapping[str, float] | Failure]:
        self.measured += architectures
        return [self._costs(self.true_ms(architecture)) for architecture in architectures]

    def true_ms(self, architecture: Architecture) -> float:
        blocks = self.space.blocks(architecture.indices, self.spec)
        return FIXED_MS + sum(
            count * FACTORS.get(block.kind, 1.0) * self._block_ms(block) for block, count in blocks.items()
        )

    def _block_ms(self, block: Block) -> float:
        if block not in self._times:
            self._times[block] = module_ms(self.space.build_block(block).eval(), block.input_shapes)
        return self._times[block]

    def _costs(self, ms: float) -> Mapping[str, float]:
        ms *= float(np.exp(self.rng.normal(0.0, self.noise))) if self.noise else 1.0
        return {"latency_ms": ms, "latency_ms_low": 0.99 * ms, "latency_ms_high": 1.01 * ms}


class Synthetic(WholeNetworks):
    """The same for a device that also times single modules, each with the overhead of a call."""

    def __init__(self, space: SearchSpace, spec: TaskSpec = SPEC, *, noise: float = 0.0) -> None:
        super().__init__(space, spec, noise=noise)
        self.timed = 0

    def time_modules(self, modules: Sequence[tuple[nn.Module, Sequence[tuple[int, ...]]]]) -> list[Latency | Failure]:
        self.timed += len(modules)
        times = [OVERHEAD_MS + module_ms(module, shapes) for module, shapes in modules]
        return [Latency(ms, ms, ms) for ms in times]


def module_ms(module: nn.Module, shapes: Sequence[tuple[int, ...]]) -> float:
    """Return a time that grows with the work; nothing for what does nothing."""
    if shapes == ((1,),):
        return 0.0
    elements = sum(int(np.prod(shape)) for shape in shapes) + count_params(module)
    return 1e-6 * count_macs(module, *shapes) + 1e-5 * elements


def make_profile(
    device: WholeNetworks, folder: Path, plan: ProfilePlan | None = None, shown: list[str] | None = None
) -> Profile:
    """Return the profile of a synthetic device, made in a folder."""
    journal = Journal(folder / "part", {"device": device.name})
    said = [] if shown is None else shown
    plan = plan or ProfilePlan(networks=16, visits=1)
    work = Profiling(device.space, device.spec, device, plan, journal, lambda text, _: said.append(text))
    return work.run(NODE, {"rlnas": "0"})


def write_profile(device: WholeNetworks, path: Path) -> Path:
    """Write the profile of a synthetic device."""
    path.write_text(make_profile(device, path.parent).text(), encoding="utf-8")
    return path
