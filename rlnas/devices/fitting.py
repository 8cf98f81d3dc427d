"""A roofline fitted to a few measured networks: how far the board is from its peak, and how far the fit can be off."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple, TypeAlias

import numpy as np
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from scipy.optimize import nnls  # type: ignore[import-untyped]

from rlnas.errors import ConfigError, IllegalArchitectureError
from rlnas.space import Architecture, FloatArray, IntArray, SearchSpace, TaskSpec

COVERAGE = 0.9
LEAST_NETWORKS = 9
"""With fewer none of the residuals is the 90 % quantile of one more network."""

_Milliseconds: TypeAlias = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]


class Fit(NamedTuple):
    """How a roofline becomes a prediction.

    Attributes:
        scales: By which each part of a bound is multiplied, >= 0.
        low: The lower end of the interval is this times the prediction, <= 1.
        high: The upper end, >= 1.
    """

    scales: tuple[float, ...]
    low: float
    high: float


@dataclass(frozen=True)
class _Network:
    __pydantic_config__ = ConfigDict(extra="forbid")

    architecture: list[int]
    latency_ms: _Milliseconds


@dataclass(frozen=True)
class _Networks:
    __pydantic_config__ = ConfigDict(extra="forbid")

    space: str
    input_shape: list[int]
    num_classes: int
    networks: list[_Network]
    vocabulary_size: int | None = None


def fit_roofline(bounds: FloatArray, measured: FloatArray) -> Fit:
    """Return scales by non-negative least squares of relative errors, with a conformal interval.

    The interval is that of one more network of the same kind: the 90 % quantile of the errors that each network has
    where the others are fitted (Lei et al., "Distribution-free predictive inference for regression", 2018).

    Args:
        bounds: The parts of each network's bound in milliseconds, shape (n, parts).
        measured: In milliseconds, shape (n,), n >= `LEAST_NETWORKS`.
    """
    factors = []
    for left_out in range(len(measured)):
        others = np.arange(len(measured)) != left_out
        predicted = float(bounds[left_out] @ _least_squares(bounds[others], measured[others]))
        ratio = measured[left_out] / max(predicted, 1e-12 * measured[left_out])
        factors.append(max(ratio, 1.0 / ratio))
    rank = math.ceil(COVERAGE * (len(factors) + 1))
    factor = float(sorted(factors)[rank - 1])
    return Fit(tuple(_least_squares(bounds, measured).tolist()), 1.0 / factor, factor)


def _least_squares(bounds: FloatArray, measured: FloatArray) -> FloatArray:
    weights, _ = nnls(bounds / measured[:, None], np.ones(len(measured)))
    return np.asarray(weights, np.float64)


def read_networks(path: Path, space: SearchSpace, spec: TaskSpec) -> tuple[IntArray, FloatArray]:
    """Return measured networks from a file of `write_networks`: indices (n, D) and milliseconds (n,).

    Raises:
        ConfigError: The file is unreadable, of another space or task, or has too few networks.
    """
    where = f"device.fitted={path}"
    try:
        content = TypeAdapter(_Networks).validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{where} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise ConfigError(
            f"{where}: {place}: {first['msg']}; write the file with rlnas.devices.fitting.write_networks"
        ) from None
    asked = (space.key, list(spec.input_shape), spec.num_classes, spec.vocabulary_size)
    found = (content.space, content.input_shape, content.num_classes, content.vocabulary_size)
    if found != asked:
        raise ConfigError(f"{where} was measured for {_named(*found)}, not for {_named(*asked)} of this run")
    return _checked(where, content.networks, space)


def write_networks(
    path: Path,
    space: SearchSpace,
    spec: TaskSpec,
    architectures: Sequence[Architecture],
    latencies_ms: Sequence[float],
) -> None:
    """Write networks of a space and what each was measured to take on a board, for ``device.fitted``."""
    networks = [
        {"architecture": list(architecture.indices), "latency_ms": float(ms)}
        for architecture, ms in zip(architectures, latencies_ms, strict=True)
    ]
    content = {"space": space.key, **spec.settings, "networks": networks}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _checked(where: str, networks: Sequence[_Network], space: SearchSpace) -> tuple[IntArray, FloatArray]:
    rows: dict[tuple[int, ...], float] = {}
    for network in networks:
        try:
            rows[space.architecture(network.architecture).indices] = network.latency_ms
        except IllegalArchitectureError as error:
            raise ConfigError(f"{where}: {error}") from None
    if len(rows) < LEAST_NETWORKS:
        raise ConfigError(
            f"{where} has {len(rows)} different networks; an interval that holds {COVERAGE:.0%} of the time needs at "
            f"least {LEAST_NETWORKS}"
        )
    return np.array(list(rows), np.int64), np.array(list(rows.values()), np.float64)


def _named(space: str, input_shape: Sequence[int], num_classes: int, vocabulary_size: int | None) -> str:
    of = "" if vocabulary_size is None else f" of {vocabulary_size} tokens"
    return f"space {space} with inputs {list(input_shape)}{of} and {num_classes} classes"
