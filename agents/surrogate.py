"""What an unseen architecture may earn, learned from those that were evaluated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol, TypeAlias

import numpy as np
from scipy.linalg import cho_factor, cho_solve, solve_triangular  # type: ignore[import-untyped]
from scipy.optimize import minimize  # type: ignore[import-untyped]

from rlnas.space import FloatArray, IntArray, SearchSpace

SurrogateName: TypeAlias = Literal["gp", "ensemble"]
Encode: TypeAlias = Callable[[IntArray], FloatArray]

LARGE = 64
"""With more choices than this a space counts as large: a Gaussian process fits a weight to each, at a cost that grows
with their number, and from a few hundred evaluations so many cannot be told apart."""

MAX_POINTS = 1000
"""What a Gaussian process is fitted to at most; its cost grows with the cube of their number."""

_PROBES = 64
_NOISE_PRIOR = 0.1
_JITTER = 1e-6


class Surrogate(Protocol):
    """A regression with uncertainty."""

    def fit(self, architectures: IntArray, targets: FloatArray) -> None:
        """Learn from distinct architectures, shape (n, D), and their targets, shape (n,), n >= 2.

        Targets are standardised; the highest come first.
        """
        ...

    def predict(self, architectures: IntArray) -> tuple[FloatArray, FloatArray]:
        """Return the mean, shape (m,), and the covariance, shape (m, m), of architectures (m, D)."""
        ...

    def state(self) -> list[float]:
        """Return what the next `fit` begins with, as JSON."""
        ...

    def restore(self, state: list[float]) -> None:
        """Take back what `state` gave."""
        ...


class Encoding:
    """Architectures as one-hot vectors, and beside these their representatives' where the space has equal members.

    Args:
        space: What is encoded.

    Attributes:
        groups: The choice that each column belongs to, shape (M,).
    """

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        rng = np.random.default_rng(0)
        probes = np.array([space.sample(rng).indices for _ in range(_PROBES)])
        self._has_twins = bool((space.canonical(probes) != probes).any())
        blocks = 2 if self._has_twins else 1
        self._counts = np.tile(space.num_candidates, blocks)
        self._first = np.concatenate([[0], np.cumsum(self._counts)[:-1]])
        self.groups = np.repeat(np.arange(len(self._counts)), self._counts)

    @property
    def num_groups(self) -> int:
        """How many choices are encoded, those of representatives included."""
        return len(self._counts)

    def __call__(self, architectures: IntArray) -> FloatArray:
        """Return the vectors of architectures (n, D), shape (n, M)."""
        if self._has_twins:
            architectures = np.hstack([architectures, self._space.canonical(architectures)])
        vectors = np.zeros((len(architectures), len(self.groups)))
        np.put_along_axis(vectors, architectures + self._first, 1.0, axis=1)
        return vectors


class GaussianProcess:
    """A Gaussian process whose covariance falls with each choice in which two architectures differ.

    ``k(x, y) = s * exp(-sum of w_t over the choices t with x_t != y_t)``, plus noise on the diagonal. The weights w
    and the noise maximise the posterior under log-normal priors, from their last values on; s is the value that
    maximises the likelihood given these.

    Args:
        space: What is searched.
        steps: Of the optimiser (L-BFGS) at each fit.

    References:
        Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006, algorithm 2.1 and equation 5.9.
    """

    def __init__(self, space: SearchSpace, steps: int = 6) -> None:
        self._encode = Encoding(space)
        self._steps = steps
        blocks = self._encode.num_groups // space.num_choices
        prior_weight = 2.0 / (space.num_choices * blocks)  # two random architectures correlate by about 0.2
        self._prior = np.log(np.append(np.full(self._encode.num_groups, prior_weight), _NOISE_PRIOR))
        self._parameters = self._prior.copy()

    def fit(self, architectures: IntArray, targets: FloatArray) -> None:
        """Learn, from at most the best `MAX_POINTS`; see `Surrogate.fit`."""
        self._seen, targets = self._encode(architectures[:MAX_POINTS]), targets[:MAX_POINTS]
        if self._steps:
            found = minimize(
                self._loss,
                self._parameters,
                (self._seen, targets),
                method="L-BFGS-B",
                jac=True,
                bounds=[(low - 5.0, low + 5.0) for low in self._prior],
                options={"maxiter": self._steps, "maxfun": 2 * self._steps},
            )
            self._parameters = found.x
        weights, noise = np.exp(self._parameters[:-1]), float(np.exp(self._parameters[-1]))
        covariance = self._kernel(self._seen, self._seen, weights) + (noise + _JITTER) * np.eye(len(targets))
        self._factor = cho_factor(covariance, lower=True)
        self._alpha = cho_solve(self._factor, targets)
        self._signal = float(targets @ self._alpha) / len(targets)

    def predict(self, architectures: IntArray) -> tuple[FloatArray, FloatArray]:
        """Return mean and covariance without noise; see `Surrogate.predict`."""
        new, weights = self._encode(architectures), np.exp(self._parameters[:-1])
        cross = self._kernel(self._seen, new, weights)
        half = solve_triangular(self._factor[0], cross, lower=True)
        covariance: FloatArray = self._signal * (self._kernel(new, new, weights) - half.T @ half)
        mean: FloatArray = cross.T @ self._alpha
        return mean, covariance

    @property
    def noise(self) -> float:
        """The variance of the noise."""
        return self._signal * float(np.exp(self._parameters[-1]))

    def state(self) -> list[float]:
        """Return the logarithms of weights and noise; see `Surrogate.state`."""
        found: list[float] = self._parameters.tolist()
        return found

    def restore(self, state: list[float]) -> None:
        """Take back what `state` gave."""
        self._parameters = np.asarray(state)

    def _kernel(self, left: FloatArray, right: FloatArray, weights: FloatArray) -> FloatArray:
        matches: FloatArray = (left * weights[self._encode.groups]) @ right.T
        covariance: FloatArray = np.exp(matches - weights.sum())
        return covariance

    def _loss(self, parameters: FloatArray, seen: FloatArray, targets: FloatArray) -> tuple[float, FloatArray]:
        """Return the negative log-posterior of log weights and log noise, up to a constant, and its gradient."""
        weights, noise = np.exp(parameters[:-1]), float(np.exp(parameters[-1]))
        count = len(targets)
        kernel = self._kernel(seen, seen, weights)
        factor = cho_factor(kernel + (noise + _JITTER) * np.eye(count), lower=True)
        inverse = cho_solve(factor, np.eye(count))
        alpha = inverse @ targets
        signal = max(float(targets @ alpha) / count, 1e-12)
        loss = 0.5 * count * np.log(signal) + float(np.log(np.diag(factor[0])).sum())
        outer = inverse - np.outer(alpha, alpha) / signal
        product = outer * kernel
        matched = np.bincount(self._encode.groups, ((product @ seen) * seen).sum(axis=0), minlength=len(weights))
        gradient = np.append(-0.5 * (product.sum() - matched) * weights, 0.5 * np.trace(outer) * noise)
        shift = parameters - self._prior
        return loss + 0.5 * float(shift @ shift), gradient + shift


class Ensemble:
    """Extremely randomised trees; their disagreement is the uncertainty.

    Args:
        space: What is searched.
        seed: Decides the trees, >= 0.
        num_trees: >= 2.

    References:
        Geurts, Ernst and Wehenkel, "Extremely randomized trees", 2006.
    """

    def __init__(self, space: SearchSpace, seed: int, num_trees: int = 30) -> None:
        from sklearn.ensemble import ExtraTreesRegressor  # a second to import

        self._encode = Encoding(space)
        self._trees = ExtraTreesRegressor(num_trees, max_features=0.5, random_state=seed)

    noise = 0.0

    def fit(self, architectures: IntArray, targets: FloatArray) -> None:
        """Learn; see `Surrogate.fit`."""
        self._trees.fit(self._encode(architectures), targets)

    def predict(self, architectures: IntArray) -> tuple[FloatArray, FloatArray]:
        """Return mean and covariance over the trees; see `Surrogate.predict`."""
        vectors = self._encode(architectures).astype(np.float32)
        votes = np.stack([tree.tree_.predict(vectors)[:, 0] for tree in self._trees.estimators_])
        mean: FloatArray = votes.mean(axis=0)
        deviations = votes - mean
        covariance: FloatArray = deviations.T @ deviations / len(votes)
        return mean, covariance

    def state(self) -> list[float]:
        """Return nothing: trees grow anew at each fit."""
        return []

    def restore(self, state: list[float]) -> None:
        """Take back what `state` gave."""


def choose_batch(mean: FloatArray, covariance: FloatArray, count: int, *, beta: float, noise: float) -> IntArray:
    """Return which candidates to evaluate: by the upper confidence bound, one after the other.

    Each one chosen lowers the uncertainty of those like it, as if it had turned out as expected, so that a batch is
    not ten times the same guess.

    Args:
        mean: Shape (m,).
        covariance: Shape (m, m).
        count: How many, at most m.
        beta: Weight of the standard deviation, >= 0.
        noise: The variance of an evaluation, >= 0.

    Returns:
        Positions, in the order in which they were chosen, shape (count,).

    References:
        Desautels, Krause and Burdick, "Parallelizing Exploration-Exploitation Tradeoffs in Gaussian Process Bandit
        Optimization", 2014 (GP-BUCB).
    """
    covariance = covariance.copy()
    is_open = np.ones(len(mean), dtype=np.bool_)
    found = []
    for _ in range(count):
        bound = mean + beta * np.sqrt(np.clip(np.diag(covariance), 0.0, None))
        pick = int(np.argmax(np.where(is_open, bound, -np.inf)))
        found.append(pick)
        is_open[pick] = False
        row = covariance[pick].copy()
        covariance -= np.outer(row, row) / (row[pick] + noise + 1e-9)
    return np.asarray(found, dtype=np.int64)


def make_surrogate(kind: SurrogateName | None, space: SearchSpace, seed: int) -> GaussianProcess | Ensemble:
    """Return a surrogate by its name; None takes a Gaussian process, or an ensemble where the space is large."""
    if kind is None:
        kind = "gp" if space.num_choices <= LARGE else "ensemble"
    return GaussianProcess(space) if kind == "gp" else Ensemble(space, seed)
