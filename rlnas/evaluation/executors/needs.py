"""What a candidate needs of a node of a cluster, and what can be checked before a cluster is asked."""

from __future__ import annotations

import math
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rlnas.errors import ConfigError
from rlnas.interfaces import Proxy

_CONNECT_SECONDS = 5.0
_LOCATION = "on a node of the cluster write HOST:PORT, as in head-node:6379, or auto for the cluster of this machine"


@dataclass(frozen=True, slots=True)
class Needs:
    """What one candidate claims of a node.

    Args:
        num_cpus: CPUs, >= 0; fractions let several share one.
        num_gpus: A share of one GPU, in [0, 1], or several whole ones.

    Raises:
        ConfigError: Nothing is claimed, or what cannot be.
    """

    num_cpus: float
    num_gpus: float

    def __post_init__(self) -> None:
        if not 0 <= self.num_cpus < math.inf:
            raise ConfigError(f"executor.num_cpus must be 0 or more, got {self.num_cpus}")
        if not 0 <= self.num_gpus < math.inf or (self.num_gpus > 1 and self.num_gpus != int(self.num_gpus)):
            raise ConfigError(f"executor.num_gpus must be in [0, 1], or a whole number, got {self.num_gpus}")
        if self.num_cpus == self.num_gpus == 0:
            raise ConfigError(
                "executor.num_cpus and executor.num_gpus are both 0, so that a node would hold any number of "
                "candidates; give one of them, as in executor.num_cpus=1"
            )

    def __str__(self) -> str:
        return f"executor.num_cpus={self.num_cpus:g} and executor.num_gpus={self.num_gpus:g}"

    @property
    def claims(self) -> dict[str, float]:
        """By the name of the resource, without what is not claimed."""
        return {name: need for name, need in (("CPU", self.num_cpus), ("GPU", self.num_gpus)) if need}

    def num_places(self, resources: Mapping[str, float]) -> int:
        """Return how many candidates a node with these resources holds."""
        shares = (resources.get(name, 0.0) / need for name, need in self.claims.items())
        return math.floor(min(shares) + 1e-6)  # three candidates with a third of a GPU each share one

    def check_proxy(self, proxy: Proxy) -> None:
        """Check that a proxy computes where it claims to.

        Raises:
            ConfigError: It computes on a GPU and claims none, or the other way round.
        """
        processor = proxy.settings.get("device")
        if processor == "cuda" and not self.num_gpus:
            raise ConfigError(
                "the proxy computes on a GPU, and executor.num_gpus=0 gives its workers none; give a share, as in "
                "executor.num_gpus=0.25, or proxy.device=cpu"
            )
        if processor == "cpu" and self.num_gpus:
            raise ConfigError(
                f"the proxy computes on the CPU, and executor.num_gpus={self.num_gpus:g} would keep GPUs idle; give "
                "executor.num_gpus=0, or start the search on a node with a GPU, where proxy.device=auto takes it"
            )


def resources_text(nodes: Iterable[Mapping[str, float]]) -> str:
    """Return the CPUs and GPUs of nodes in words."""
    texts = [", ".join(f"{node.get(name, 0.0):g} {name}" for name in ("CPU", "GPU")) for node in nodes]
    return "; ".join(f"{texts.count(text)} x ({text})" for text in dict.fromkeys(texts)) or "no nodes"


def check_address(address: str) -> None:
    """Check that something answers at the address of a cluster.

    Raises:
        ConfigError: It is no address, or nothing answers.
    """
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "://" in address:
        raise ConfigError(f"executor.address={address} is no address; {_LOCATION}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"nothing answers at executor.address={address} ({error}); start the cluster with `ray start --head`, "
            f"or {_LOCATION}"
        ) from error
