"""The workers on a cluster's nodes: as many as there is room for, and none that would give other results."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Mapping
from typing import Any

from rlnas.errors import ConfigError, SearchError
from rlnas.evaluation.executors.needs import Needs, resources_text
from rlnas.evaluation.executors.ray import Lost, Node, RayCluster, Started, Worker
from rlnas.evaluation.executors.remote import own_paths, versions
from rlnas.space import Json

LOOK_EVERY_SECONDS = 2.0
"""For nodes that came or went."""

_MAX_FAILED_STARTS = 3  # for each worker, without one that succeeds
_SHIP = (
    "install the same rlnas on each node, or send it along, as in executor.runtime_env={py_modules: [...]}: see "
    "docs/cluster.md"
)
_logger = logging.getLogger(__name__)


class Crew:
    """Starts workers, takes in those that have started, and forgets those whose node is gone.

    Args:
        cluster: Where they are.
        needs: What each claims.
        num_asked: How many; None: as many as the nodes hold.
        num_expected: How many they hold, as long as nobody has looked.
        is_own: Whether the cluster is this machine alone.
        wait_seconds: How long to wait while there is none, > 0.
        limits: What a candidate may take: keywords of `ProcessExecutor`.

    Attributes:
        idle: Those that wait for a candidate.
        starting: Those that have not answered yet.
        num_lost_nodes: How many nodes have gone.
    """

    def __init__(
        self,
        cluster: RayCluster,
        needs: Needs,
        *,
        num_asked: int | None,
        num_expected: int,
        is_own: bool,
        wait_seconds: float,
        limits: Mapping[str, Any],
    ) -> None:
        self.idle: list[Worker] = []
        self.starting: list[Worker] = []
        self.num_lost_nodes = 0
        self._cluster, self._needs, self._limits = cluster, needs, limits
        self._num_asked, self._num_places = num_asked, num_expected
        self._is_own, self._wait_seconds = is_own, wait_seconds
        self._parked: list[Worker] = []  # of other versions: they keep the place, so that none starts there again
        self._nodes: dict[str, Node] = {}
        self._known_hosts: set[str] = set()
        self._num_failed_starts = 0
        self._looked = self._had_workers = -math.inf  # when

    @property
    def num_workers(self) -> int:
        """How many there are to be."""
        return max(1, self._num_asked or self._num_places)

    def wait_anew(self) -> None:
        """Let the time begin in which there may be no worker."""
        self._had_workers = time.monotonic()

    def look_again(self) -> None:
        """Look at the nodes the next time, and not only after a while: something has happened."""
        self._looked = -math.inf

    def dismiss(self) -> tuple[list[Worker], list[Worker]]:
        """Forget all; returns those that are idle, and the others that are not at work."""
        dismissed = self.idle, [*self.starting, *self._parked]
        self.idle, self.starting, self._parked, self._nodes = [], [], [], {}
        self.look_again()
        return dismissed

    def look_around(self, num_busy: int) -> None:
        """Forget workers whose node is gone, and start some where there is room beside those at work.

        Raises:
            ConfigError: This machine alone is too small.
            SearchError: There has been no worker for too long.
        """
        now = time.monotonic()
        if now - self._looked < LOOK_EVERY_SECONDS:
            return
        self._looked = now
        nodes = self._cluster.nodes()
        self._report_lost(self._nodes.keys() - nodes.keys())
        self._nodes = nodes
        resources = [node.resources for node in nodes.values()]
        self.idle = [worker for worker in self.idle if worker.node in nodes]
        self._parked = [worker for worker in self._parked if worker.node in nodes]
        self._num_places = sum(map(self._needs.num_places, resources))
        if not self._num_places and self._is_own:
            raise ConfigError(f"a candidate needs {self._needs}; this machine has {resources_text(resources)}")
        for _ in range(self.num_workers - num_busy - len(self.idle) - len(self.starting) - len(self._parked)):
            self.starting.append(self._cluster.start(own_paths(), self._limits))
        if self.idle or num_busy:
            self.wait_anew()
        if now - self._had_workers > self._wait_seconds:
            raise SearchError(
                f"there has been no worker for executor.wait_seconds={self._wait_seconds:g}; a candidate needs "
                f"{self._needs}, and the cluster has {resources_text(resources)}, perhaps claimed by others"
            )

    def _report_lost(self, keys: Iterable[str]) -> None:
        for key in keys:
            self.num_lost_nodes += 1
            _logger.warning("node %s (%s) is gone from the cluster", self._nodes[key].host, key[:8])

    def count_failed_start(self, lost: Lost) -> None:
        """Note that a worker did not start.

        Raises:
            SearchError: It cannot, or none does.
        """
        self._num_failed_starts += 1
        if lost.for_good or self._num_failed_starts >= _MAX_FAILED_STARTS * self.num_workers:
            raise SearchError(f"workers do not start on the cluster; {_SHIP}. Ray says: {lost.text}")
        _logger.warning("a worker did not start: %s", lost.text)

    def welcome(self, worker: Worker, started: Started, settings: Mapping[str, Json], *, is_needed: bool) -> None:
        """Take a worker that has started, unless it would give other results.

        Args:
            worker: The worker.
            started: What it says of itself.
            settings: Of the proxy: what of them is the name of a library tells that results depend on its version.
            is_needed: Whether nobody is at work.

        Raises:
            ConfigError: It would, it is needed, and there is no other.
        """
        worker.node, worker.host = started.node, started.about.host
        self._num_failed_starts = 0
        ours, theirs = versions(), started.about.versions
        differing = [name for name in ours if theirs.get(name) != ours[name]]
        text = ", ".join(f"{name} {theirs.get(name)} (here {ours[name]})" for name in differing)
        named = {"results", *settings}
        if named.isdisjoint(differing):
            if differing and worker.host not in self._known_hosts:
                _logger.warning("%s has other versions: %s", worker.host, text)
            self._known_hosts.add(worker.host)
            self.idle.append(worker)
            return
        self._parked.append(worker)
        if is_needed and not self.idle and not self.starting:
            raise ConfigError(f"{worker.host} would give other results, for it has {text}; {_SHIP}")
        _logger.warning("%s is not used, for it would give other results: it has %s", worker.host, text)
