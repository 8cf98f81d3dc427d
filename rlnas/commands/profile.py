"""``rlnas profile``: the latency model of a space on a device, for ``device=lookup``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from rlnas.devices.profiles import FORMAT, Profile
from rlnas.errors import ConfigError, OutputError
from rlnas.interfaces import Device, KnownCosts
from rlnas.profiling import Journal, ProfilePlan, Profiling
from rlnas.results import write_atomically
from rlnas.space import Json, SearchSpace, TaskSpec
from rlnas.tabulation.assembly import software
from rlnas.tracking.line import ProgressLine

OK, INTERRUPTED = 0, 130


@dataclass(frozen=True, eq=False)
class Request:
    """All that a profile is made from.

    Attributes:
        space: Of the networks.
        task: What they are built for.
        device: That measures.
        device_config: The node that it was made from.
        plan: How the profile is made.
        path: Where it is written.
    """

    space: SearchSpace
    task: TaskSpec
    device: Device
    device_config: Mapping[str, Json]
    plan: ProfilePlan
    path: Path

    def __post_init__(self) -> None:
        if "latency_ms" not in self.device.cost_names:
            raise ConfigError(
                f"device {self.device.name} gives no latency_ms; choose one that measures, as in device=host"
            )
        if isinstance(self.device, KnownCosts):
            raise ConfigError(
                f"device {self.device.name} knows its costs without measuring, so there is nothing to profile; use it "
                "as it is, or choose one that measures, as in device=host"
            )

    @property
    def identity(self) -> dict[str, Json]:
        """Everything that can change a measured value: what was kept of another request is of no use."""
        facts = {
            "profile": FORMAT,
            "space": self.space.key,
            "task": list(self.task.settings.values()),
            "device": dict(self.device.settings),
            "seed": self.plan.seed,
        }
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()
        return {"space": self.space.key, "device": self.device.name, "digest": digest[:16]}


def run(request: Request, messages: Console, console: Console) -> int:
    """Make the profile and return the exit code.

    Args:
        request: What to make.
        messages: Where the progress is shown.
        console: Where the end is printed.

    Raises:
        RlnasError: The profile cannot be made; what was measured is kept.
    """
    part = request.path.with_name(request.path.name + ".measured")
    _make_folder(request.path.parent)
    journal = Journal(part, request.identity)
    if journal.resumed and journal.values:
        messages.print(f"going on with {len(journal.values)} values of {part}", highlight=False, markup=False)
    with ProgressLine(messages) as progress:
        work = Profiling(request.space, request.task, request.device, request.plan, journal, progress.show)
        try:
            profile = work.run(request.device_config, software()["versions"])
        except KeyboardInterrupt:
            kept = f"{len(journal.values)} values are kept in {part}" if journal.values else "nothing was measured yet"
            console.print(f"interrupted: {kept}; the same command goes on", highlight=False, markup=False)
            return INTERRUPTED
    write_atomically(request.path, profile.text())
    journal.remove()
    _say(profile, request, console)
    return OK


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot make the folder {folder} ({error.strerror or error}); choose another profile.path"
        ) from error


def _say(profile: Profile, request: Request, console: Console) -> None:
    path = request.path
    path = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    measured = [network.measured_ms for network in profile.networks]
    alone = sum(row.isolated_ms is not None for row in profile.blocks)
    error = profile.error
    lines = [
        f"{path}: {profile.space['name']} on {profile.device['name']}, batch {profile.batch}, "
        f"input {'x'.join(map(str, profile.input_shape))}",
        f"{alone} of {len(profile.blocks)} blocks timed alone, {len(measured)} networks measured "
        f"({min(measured):.3g} to {max(measured):.3g} ms), {profile.seconds:.0f} s",
        f"networks left out of the fit: mean error {100 * error['mape']:.1f} %, "
        f"{100 * error['within_10_percent']:.0f} % within 10 %, Kendall {error['kendall']:.2f}; "
        f"{100 * profile.confidence:.0f} % interval: a factor of {profile.factor:.3f} up and down",
        "next:",
        f"  rlnas train device=lookup device.profile={path} (with the same space and data set)",
    ]
    console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)
