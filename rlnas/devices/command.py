"""Latency on anyone's device: a command of the user's measures an ONNX file and prints what it found."""

from __future__ import annotations

import json
import logging
import math
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import nn

from rlnas.data.task import Task
from rlnas.devices.anchors import ANCHOR_SHAPE, anchor_network
from rlnas.devices.complexity import COMPLEXITY_COSTS, count
from rlnas.devices.measuring import LATENCY_COSTS, Shapes, attempted
from rlnas.devices.processes import run_command
from rlnas.devices.timing import Latency
from rlnas.errors import ConfigError, DeviceError, DeviceLostError
from rlnas.interfaces import Failure, FailureReason
from rlnas.nets import runtime
from rlnas.nets.onnx_export import OPSET, export_onnx, require_onnx
from rlnas.space import Architecture, Json, SearchSpace

PLACEHOLDER = "{model}"
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Trouble:
    """Why a call of the command gave no reading.

    Attributes:
        reason: What it is where the candidate is to blame.
        message: What happened, for people.
        may_pass: Whether the same call may succeed in a moment.
    """

    reason: FailureReason
    message: str
    may_pass: bool


class CommandDevice:
    """Costs that the user's command prints for an ONNX file: over ssh or adb, from a simulator, from anything.

    The command gets the path of the model in place of ``{model}`` and prints a JSON object, as all of its output
    or as its last line: ``{"latency_ms": 3.2}``, with ``latency_ms_low`` and ``latency_ms_high`` where it knows an
    interval (else both are ``latency_ms``). It runs without a shell, for one network at a time, batch 1, float32
    (networks for tokens: int64 inputs).

    What may pass (no answer in time, an exit code other than 0) is tried again; output that is no reading is
    not. Where a network still has no reading, the command is asked for a small network that it has measured before: if
    that works, the candidate has failed; if not, the device is lost, and the search stops.

    Args:
        space: Builds the networks.
        task: Gives the input shape and the number of classes.
        command: With its arguments; text is split as a shell would. ``{model}`` must occur.
        name: Of the device; results of another name or command are kept apart.
        timeout_seconds: For one call, > 0.
        retries: Further calls where the trouble may pass, >= 0.
        retry_wait_seconds: Between them, >= 0.
        energy: Whether it also prints ``energy_mj`` (> 0), which is then a cost.
        peak_memory: Whether it prints ``peak_memory_bytes`` (> 0), which then replaces the one that is computed.

    Raises:
        ConfigError: A value is out of range, ``{model}`` is missing, or there is no such program.
        MissingExtraError: onnx is not installed.
    """

    reusable = True

    def __init__(
        self,
        space: SearchSpace,
        task: Task,
        *,
        command: str | list[str],
        name: str,
        timeout_seconds: float = 120.0,
        retries: int = 2,
        retry_wait_seconds: float = 5.0,
        energy: bool = False,
        peak_memory: bool = False,
    ) -> None:
        require_onnx()
        self.name = _checked_name(name)
        self._command = _checked_command(command)
        if not 0.0 < timeout_seconds < math.inf:
            raise ConfigError(f"device.timeout_seconds must be above 0, got {timeout_seconds}")
        if retries < 0 or not 0.0 <= retry_wait_seconds < math.inf:
            raise ConfigError(
                f"device.retries and device.retry_wait_seconds must be at least 0, got {retries}, {retry_wait_seconds}"
            )
        self._space, self._spec = space, task.spec
        self._timeout, self._retries, self._wait = timeout_seconds, retries, retry_wait_seconds
        self._extra = ["energy_mj"] * energy + ["peak_memory_bytes"] * peak_memory
        self.cost_names: Sequence[str] = tuple(dict.fromkeys((*LATENCY_COSTS, *COMPLEXITY_COSTS, *self._extra)))
        self._has_answered = False

    @property
    def settings(self) -> Mapping[str, Json]:
        """Everything that can change a result: the device's name, the command, the networks' form."""
        return {
            "device": "command",
            "name": self.name,
            "command": self._command,
            "extra_costs": self._extra,
            **self._spec.settings,
            "opset": OPSET,
        }

    def measure(self, architectures: Sequence[Architecture]) -> list[Mapping[str, float] | Failure]:
        """Return the costs of each architecture, in order.

        Raises:
            DeviceLostError: The device does not answer, or not with a reading; holds the results so far.
        """

        def costs(architecture: Architecture) -> dict[str, float] | Failure:
            with runtime.seeded(0, torch.device("cpu")):
                network = self._space.build(architecture, self._spec).eval()
            exact = count(network, self._spec)
            reading = self._read(network, [self._spec.input_shape])
            return reading if isinstance(reading, Failure) else {**exact, **reading}

        results: list[Mapping[str, float] | Failure] = []
        for architecture in architectures:
            try:
                results.append(attempted(lambda: costs(architecture)))  # noqa: B023
            except DeviceError as error:
                raise DeviceLostError(str(error), results) from error
        return results

    def time_modules(self, modules: Sequence[tuple[nn.Module, Shapes]]) -> list[Latency | Failure]:
        """Return the latency of one call of each module; see `rlnas.devices.measuring.TimesModules`.

        Raises:
            DeviceError: The device does not answer, or not with a reading.
        """
        readings = [attempted(lambda: self._read(module.eval(), shapes)) for module, shapes in modules]  # noqa: B023
        return [
            reading if isinstance(reading, Failure) else Latency(*(reading[name] for name in LATENCY_COSTS))
            for reading in readings
        ]

    # One network -----------------------------------------------------------------------------------------------

    def _read(self, module: nn.Module, shapes: Shapes) -> dict[str, float] | Failure:
        """Return what the command prints for a module, or why this module has no reading."""
        model = export_onnx(module, shapes)
        if not self._has_answered:
            self._check_device("cannot be used")
            self._has_answered = True
        answer = self._ask(model)
        if not isinstance(answer, _Trouble):
            return answer
        self._check_device("does not answer any more")
        return Failure(answer.reason, f"device {self.name!r} works, but not for this network: {answer.message}")

    def _check_device(self, finding: str) -> None:
        answer = self._ask(self._small_model)
        if isinstance(answer, _Trouble):
            raise DeviceError(
                f"device {self.name!r} {finding}: {answer.message}. Tried {1 + self._retries * answer.may_pass} times "
                f"with a small network; check the device and the command ({shlex.join(self._command)}), then start "
                "again: what was measured is in the store"
            )

    @cached_property
    def _small_model(self) -> bytes:
        return export_onnx(anchor_network(), [ANCHOR_SHAPE])

    def _ask(self, model: bytes) -> dict[str, float] | _Trouble:
        """Run the command until it gives a reading or its trouble will not pass."""
        with tempfile.TemporaryDirectory(prefix="rlnas-") as folder:
            path = Path(folder) / "network.onnx"
            path.write_bytes(model)
            command = [part.replace(PLACEHOLDER, str(path)) for part in self._command]
            for attempt in range(self._retries + 1):
                if attempt:
                    time.sleep(self._wait)
                answer = self._ask_once(command)
                if not isinstance(answer, _Trouble) or not answer.may_pass:
                    break
                _logger.info("device %s, try %d: %s", self.name, attempt + 1, answer.message)
            return answer

    def _ask_once(self, command: Sequence[str]) -> dict[str, float] | _Trouble:
        try:
            finished = run_command(command, self._timeout)
        except subprocess.TimeoutExpired:
            return _Trouble("timeout", f"no answer within {self._timeout:g} seconds (device.timeout_seconds)", True)
        except OSError as error:
            raise DeviceError(
                f"{command[0]} cannot be started ({error.strerror or error}); check device.command"
            ) from error
        if finished.returncode != 0:
            said = _tail(finished.stderr) or _tail(finished.stdout) or "nothing"
            return _Trouble("crashed", f"exit code {finished.returncode}; it said: {said}", True)
        return self._reading(finished.stdout)

    def _reading(self, text: str) -> dict[str, float] | _Trouble:
        """Return the costs in the command's output."""
        content = _json_of(text)
        if content is None:
            return _garbage(f"its output is no JSON object but: {_tail(text) or 'nothing'}")
        reading: dict[str, float] = {}
        defaults = dict.fromkeys(LATENCY_COSTS[1:], content.get(LATENCY_COSTS[0]))
        for cost in (*LATENCY_COSTS, *self._extra):
            value = content.get(cost, defaults.get(cost))
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 < value < math.inf:
                said = f"{cost}={value!r}" if cost in content else f"no {cost}"
                return _garbage(f"it printed {said}, and {cost} must be a number above 0")
            reading[cost] = float(value)
        ms, low, high = (reading[cost] for cost in LATENCY_COSTS)
        if not low <= ms <= high:
            return _garbage(f"latency_ms_low <= latency_ms <= latency_ms_high does not hold: {low}, {ms}, {high}")
        return reading


def _checked_name(name: str) -> str:
    if not name.strip():
        raise ConfigError("device.name must name the device, such as device.name=pi5: results are kept under it")
    return name


def _checked_command(command: str | list[str]) -> list[str]:
    try:
        parts = shlex.split(command) if isinstance(command, str) else list(command)
    except ValueError as error:
        raise ConfigError(f"device.command={command!r} cannot be split into words: {error}") from None
    if not any(PLACEHOLDER in part for part in parts):
        raise ConfigError(
            f"device.command={command!r} must contain {PLACEHOLDER}, where the path of the ONNX file goes"
        )
    if shutil.which(parts[0]) is None:
        raise ConfigError(f"device.command begins with {parts[0]!r}, and there is no such program; give its full path")
    return parts


def _json_of(text: str) -> dict[str, Json] | None:
    """Return the object that is all of the output, or its last line."""
    lines = [line for line in text.splitlines() if line.strip()]
    for candidate in (text, *lines[-1:]):
        try:
            content = json.loads(candidate)
        except ValueError:
            continue
        if isinstance(content, dict):
            return content
    return None


def _garbage(message: str) -> _Trouble:
    return _Trouble("invalid", message, may_pass=False)


def _tail(text: str, most: int = 300) -> str:
    """Return the end of what a command said, on one line."""
    line = " / ".join(part.strip() for part in text.splitlines() if part.strip())
    return line if len(line) <= most else f"... {line[-most:]}"
