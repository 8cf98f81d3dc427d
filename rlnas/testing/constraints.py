"""Check that a constraint keeps its contract: run it on your own before a search does."""

from __future__ import annotations

import numpy as np

from rlnas.interfaces import Constraint, Evaluation, EvaluationObserver
from rlnas.space import Architecture, BoolArray, IntArray, SearchSpace
from rlnas.testing.conformance import Check, require, verify


def check_constraint(constraint: Constraint, space: SearchSpace, num_samples: int = 50, *, seed: int = 0) -> None:
    """Check all rules of `Constraint` on random walks through a space.

    Args:
        constraint: To check; made for `space`. One that observes evaluations is told of some, so make another one for
            a search.
        space: Whose prefixes it masks.
        num_samples: How many walks, >= 2.
        seed: Decides which.

    Raises:
        ConformanceError: The constraint breaks a rule; the message names the rule and says what to do.
    """
    verify(constraint_checks(constraint, space, num_samples, seed=seed))


def constraint_checks(
    constraint: Constraint, space: SearchSpace, num_samples: int = 50, *, seed: int = 0
) -> list[Check]:
    """Return the rules of `Constraint` for one constraint; see `check_constraint`."""
    rules = _Rules(constraint, space, num_samples, seed)
    shape = "return a new bool array of the shape (number of prefixes, candidates of the choice that comes next)"
    alone = "decide by the prefix alone, not by its neighbours, a counter or a generator"
    ahead = (
        "mask a candidate where no completion of it is allowed, or say soft = True where it is a preference that may "
        "give way"
    )
    observing = "keep what you observe by architecture, and take the architectures as they were built"
    found = [
        Check("its masks have the right form", shape, rules.form, essential=True),
        Check("its masks follow from the prefix", alone, rules.repeats),
        Check("it leaves a way to the end", ahead, rules.leads_on),
    ]
    if isinstance(constraint, EvaluationObserver):
        found.append(Check("it observes, and still leaves a way to the end", f"{observing}; {ahead}", rules.observes))
    return found


class _Rules:
    def __init__(self, constraint: Constraint, space: SearchSpace, num_samples: int, seed: int) -> None:
        self._constraint = constraint
        self._space = space
        self._rng = np.random.default_rng(seed)
        rows = [space.sample(self._rng).indices for _ in range(num_samples)]
        self._samples: IntArray = np.array(rows, dtype=np.int64)

    def form(self) -> None:
        """Ask it about the first choices of random members."""
        for t, choice in enumerate(self._space.choices):
            prefixes = self._samples[:, :t].copy()
            masks = self._constraint.mask(prefixes)
            where = f"mask() at choice {choice.name!r}"
            shape = (len(prefixes), len(choice.candidates))
            require(np.array_equal(prefixes, self._samples[:, :t]), f"{where} changes its argument")
            require(np.shape(masks) == shape, f"{where} returns the shape {np.shape(masks)}, not {shape}")
            require(masks.dtype == np.bool_, f"{where} returns {masks.dtype}, not bool")

    def repeats(self) -> None:
        """Ask twice, and for each prefix alone."""
        for t, choice in enumerate(self._space.choices):
            prefixes = self._samples[:, :t]
            masks = self._constraint.mask(prefixes)
            where = f"mask() at choice {choice.name!r}"
            again = self._constraint.mask(prefixes)
            require(np.array_equal(masks, again), f"{where} answers differently when asked again")
            for prefix, mask in zip(prefixes[:5], masks[:5], strict=True):
                alone = self._constraint.mask(prefix[None])[0]
                message = f"{where} answers differently for {prefix.tolist()} alone and in a batch"
                require(np.array_equal(mask, alone), message)

    def leads_on(self) -> None:
        """Walk through the space by what is legal and allowed."""
        self._walk("")

    def observes(self) -> None:
        """Tell it of evaluations, failed ones too, and walk again."""
        rows = self._walk("")[:10]
        evaluations = [Evaluation(Architecture(tuple(row)), 0.5) for row in rows.tolist()]
        before = rows.copy()
        self._constraint.observe(rows, evaluations)  # type: ignore[attr-defined]
        self._constraint.observe(rows[:0], [])  # type: ignore[attr-defined]
        require(np.array_equal(before, rows), "observe() changes its argument")
        self._walk(f" after {len(rows)} observed evaluations")

    def _walk(self, when: str) -> IntArray:
        soft = bool(getattr(self._constraint, "soft", False))
        prefixes: IntArray = np.empty((len(self._samples), 0), dtype=np.int64)
        for choice in self._space.choices:
            legal = self._space.legal(prefixes)
            allowed: BoolArray = legal & self._constraint.mask(prefixes)
            closed = ~allowed.any(axis=1)
            if not soft:
                prefix = prefixes[np.argmax(closed)].tolist()
                message = f"it allows no legal candidate of choice {choice.name!r} after {prefix}{when}: a dead end"
                require(not closed.any(), message)
            allowed[closed] = legal[closed]
            drawn = np.argmax(np.where(allowed, self._rng.random(allowed.shape), -1.0), axis=1)
            prefixes = np.column_stack([prefixes, drawn])
        return prefixes


__all__ = ["check_constraint", "constraint_checks"]
