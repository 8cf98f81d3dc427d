"""From finished architectures to evaluations: the evaluator, its store, its budget, and where proxies run."""

from rlnas.evaluation.evaluator import Evaluator
from rlnas.evaluation.executors.cluster import RayExecutor
from rlnas.evaluation.executors.processes import ProcessExecutor
from rlnas.evaluation.executors.serial import SerialExecutor
from rlnas.evaluation.ledger import Ledger
from rlnas.evaluation.scope import RESULTS_VERSION
from rlnas.evaluation.store import Store

__all__ = ["RESULTS_VERSION", "Evaluator", "Ledger", "ProcessExecutor", "RayExecutor", "SerialExecutor", "Store"]
