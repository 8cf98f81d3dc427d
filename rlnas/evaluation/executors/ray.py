"""A Ray cluster as an executor sees it: nodes, and workers that answer or are lost. Nothing else imports ray."""

from __future__ import annotations

import importlib.util
import logging
import os
import signal
import textwrap
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from rlnas.errors import ConfigError, MissingExtraError, SearchError
from rlnas.evaluation.executors.needs import Needs
from rlnas.evaluation.executors.remote import About, CandidateWorker, Reply
from rlnas.interfaces import Proxy
from rlnas.space import Architecture, Json

_OBJECT_STORE = 100 * 2**20  # bytes, beside proxies; Ray refuses less than 75 MiB
_FAREWELL_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Node:
    """A machine of the cluster, and what it has in all, such as ``CPU``."""

    key: str
    host: str
    resources: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Started:
    """A worker has started."""

    node: str
    about: About


@dataclass(frozen=True, slots=True)
class Lost:
    """A worker has ended before it answered.

    Attributes:
        text: What Ray says, on one line.
        for_good: Whether another one would not start either.
    """

    text: str
    for_good: bool = False


@dataclass(eq=False, slots=True)
class Worker:
    """An actor with a `CandidateWorker`, which does one thing at a time: `reply` refers to its next answer."""

    actor: Any
    reply: Any
    node: str = ""
    host: str = ""
    proxy_number: int = -1


@dataclass(frozen=True, slots=True)
class Shipment:
    """A packed proxy in the object store, from where each node fetches it once."""

    number: int
    reference: Any


class RayCluster:
    """The connection to a cluster; made when it is first needed.

    Args:
        address: Of a running one, or ``auto``; None: one of its own on this machine.
        num_cpus: How many CPUs one of its own offers.
        needs: What each worker claims.
        runtime_env: Ray's runtime environment, or None.

    Raises:
        MissingExtraError: Ray is not installed.
    """

    def __init__(
        self, address: str | None, num_cpus: int, needs: Needs, runtime_env: Mapping[str, Json] | None
    ) -> None:
        if importlib.util.find_spec("ray") is None:
            raise MissingExtraError("executor=ray needs Ray: pip install 'rlnas[ray]'")
        self._address, self._num_cpus, self._needs = address, num_cpus, needs
        self._runtime_env = None if runtime_env is None else dict(runtime_env)
        self._ray: Any = None  # the module, while connected
        self._is_guest = False
        self._num_shipments = 0

    def ship(self, proxy: Proxy) -> Shipment:
        """Connect where that is not done yet, and put a proxy into the object store.

        Raises:
            ConfigError: There is no connection, or the proxy cannot be sent.
        """
        payload = np.frombuffer(_packed(proxy), dtype=np.uint8)  # an array: mapped, not copied, on each node
        if self._ray is None:
            self._connect(payload.nbytes)
        self._num_shipments += 1
        return Shipment(self._num_shipments, self._ray.put(payload))

    def nodes(self) -> dict[str, Node]:
        """Return the nodes that are alive, as far as the cluster knows, by id: a loss may take it half a minute."""
        found = [
            Node(node["NodeID"], node["NodeManagerHostname"], node["Resources"])
            for node in self._ray.nodes()
            if node["Alive"]
        ]
        return {node.key: node for node in found}

    def start(self, paths: Sequence[str], limits: Mapping[str, Any]) -> Worker:
        """Start a worker, wherever there is room; it answers `Started`."""
        actor_class = self._ray.remote(**asdict(self._needs), max_restarts=0)(CandidateWorker)
        actor = actor_class.remote(paths, limits)
        return Worker(actor, actor.__ray_call__.remote(_introduce))

    def give(self, worker: Worker, shipment: Shipment, architecture: Architecture) -> None:
        """Let an idle worker estimate a candidate; it answers `Reply`."""
        payload = None if worker.proxy_number == shipment.number else shipment.reference
        worker.proxy_number = shipment.number
        worker.reply = worker.actor.estimate.remote(shipment.number, payload, architecture)

    def wait(self, workers: Iterable[Worker], seconds: float) -> list[Worker]:
        """Return the workers that have answered or are lost, at the latest after so many seconds."""
        owners = {worker.reply: worker for worker in workers}
        ready, rest = self._ray.wait(list(owners), timeout=seconds)
        if ready and rest:
            ready += self._ray.wait(rest, num_returns=len(rest), timeout=0)[0]
        return [owners[reference] for reference in ready]

    def answer(self, worker: Worker) -> Started | Reply | Lost:
        """Return what a worker says, or what became of it.

        Raises:
            SearchError: It failed in a way that is no candidate's.
        """
        errors = self._ray.exceptions
        try:
            answer: Started | Reply = self._ray.get(worker.reply)
        except (errors.RayActorError, errors.RuntimeEnvSetupError) as error:
            self.kill(worker)
            for_good = isinstance(error, errors.RuntimeEnvSetupError) or getattr(error, "actor_init_failed", False)
            return Lost(textwrap.shorten(str(error), 2000 if for_good else 300), for_good)
        except errors.RayError as error:
            raise SearchError(f"a worker on {worker.host or 'the cluster'} failed: {error}") from error
        return answer

    def kill(self, worker: Worker) -> None:
        """End a worker at once, and the process of its candidate."""
        self._ray.kill(worker.actor)

    def close(self, idle: Sequence[Worker], others: Iterable[Worker]) -> None:
        """End workers, and the connection, and the cluster if it was started here; safe to call twice."""
        if self._ray is not None and self._ray.is_initialized():
            farewells = [worker.actor.close.remote() for worker in idle]  # their processes end before they do
            if farewells:
                self._ray.wait(farewells, num_returns=len(farewells), timeout=_FAREWELL_SECONDS)
            for worker in [*idle, *others]:
                self.kill(worker)
            if not self._is_guest:
                self._ray.shutdown()
        self._ray = None

    def _connect(self, num_bytes: int) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray

        self._is_guest = ray.is_initialized()  # in a program with a connection of its own
        options: dict[str, Any] = {"address": self._address or "local", "runtime_env": self._runtime_env}
        if self._address is None:
            store = _OBJECT_STORE + 4 * num_bytes
            options |= {"num_cpus": self._num_cpus, "include_dashboard": False, "object_store_memory": store}
        if not self._is_guest:
            try:
                with _own_signals():
                    ray.init(**options, log_to_driver=False, logging_level=logging.ERROR)
            except (RuntimeError, ValueError, OSError) as error:  # a ConnectionError is an OSError
                where = "on this machine" if self._address is None else f"at executor.address={self._address}"
                raise ConfigError(f"Ray does not get a cluster {where}: {error}") from error
        self._ray = ray


def _introduce(worker: CandidateWorker) -> Started:
    """Return where a worker is and what it says of itself; runs there."""
    import ray

    return Started(ray.get_runtime_context().get_node_id(), worker.about())


def _packed(proxy: Proxy) -> bytes:
    from ray import cloudpickle  # takes along what a script defines itself

    dumps: Callable[[Proxy], bytes] = cloudpickle.dumps
    try:
        return dumps(proxy)
    except Exception as error:
        raise ConfigError(
            f"proxy {type(proxy).__name__} cannot be sent to workers ({type(error).__name__}: {error}); keep open "
            "files, locks and the like out of it, or use executor=serial"
        ) from error


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep what this process does at SIGTERM, for which Ray sets a handler of its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)
