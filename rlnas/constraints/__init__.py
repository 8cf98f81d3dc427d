"""Action masks beyond legality: nothing twice, and nothing over a limit."""

from rlnas.constraints.limits import Limits
from rlnas.constraints.making import make_constraints
from rlnas.constraints.novelty import Novelty

__all__ = ["Limits", "Novelty", "make_constraints"]
