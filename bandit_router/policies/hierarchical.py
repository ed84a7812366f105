"""A hierarchical linear model of all arms whose scales are learned: the mathematics behind the default policy.

The model. With x = (1, context), arm a answers request x with

    y = x . theta_a + noise,     noise ~ Normal(0, s),
    theta_a ~ Normal(theta_0, s / L)          every arm deviates from what all arms share,
    theta_0 ~ Normal(0, s / L_0)              L and L_0 diagonal, one value per block of coefficients.

Given theta_0. With S_a = sum x x' and b_a = sum y x over the requests that a served, and A_a = L + S_a,

    E[theta_a | theta_0] = t_a + A_a^-1 L theta_0,     t_a = A_a^-1 b_a.                                   (1)

What the arms share. One more outcome of a has, given the arm's past and theta_0,

    y - x . t_a = z . theta_0 + Normal(0, s (1 + h)),     v = A_a^-1 x,  z = L v,  h = x . v.            (2)

So theta_0 is a ridge regression too, of innovations on z with weights 1 / (1 + h), and its precision
P = L_0 + sum_a (L - L A_a^-1 L) moves by rank one. Both regressions are exact (Sherman & Morrison 1950).

Scores. The arms' values at x are jointly normal. In units of s,

    mean_a = x . t_a + z_a . theta_0,     Var(a - g) = h_a + h_g + (z_a - z_g)' P^-1 (z_a - z_g).         (3)

What all arms have in common, such as how hard the request is, cancels in (3), as it should in a choice.

Scales. With coefficients and s integrated out, the evidence for L and L_0 is, up to a constant,

    1/2 sum_a (log|L| - log|A_a|) + 1/2 (log|L_0| - log|P|) - (n + 1)/2 log R,                            (4)
    R = 1/4 + sum y^2 - sum_a b_a . t_a - q' P^-1 q,     q = L sum_a t_a,     theta_0 = P^-1 q,     s = R / (n + 1),

where the 1/4 is one pseudo-observation of the largest variance on [0, 1]. It is maximised each time the number of
outcomes has doubled, so its cost per outcome vanishes; above 64 dimensions that is spread over the outcomes that follow
(wide_hierarchy.py). The deviation that a block adds, in units of the noise, has a half-Cauchy prior with median
`TYPICAL` (Gelman 2006, "Prior distributions for variance parameters in hierarchical models", Bayesian Analysis 1(3)).

Blocks. Columns sort themselves by the values they have had: constant (with the leading 1: the level), 0/1 (indicators,
such as a task), other numbers (an embedding). Precisions are relative to the mean square of a request's block, number
by number or over all indicators, so that a block's scale is the deviation it adds to a typical request whatever its
units and number of columns. A block that explains nothing gets a scale near 0. The first maximisation finds the blocks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from bandit_router.arrays import F64
from bandit_router.policies.scale_ascent import ScaleAscent

LARGEST_VARIANCE = 0.25  # of anything on [0, 1]
# Prior median of every block's deviation, in noise deviations: levels of arms and difficulties of requests differ by
# about half the noise of one outcome, arms differ in what context does to them by about a tenth of it.
TYPICAL = np.array([0.5, 0.1, 0.1, 0.5, 0.5])
# The same for costs: tasks move them by about half of what equal requests differ by, as answers differ in length.
# Not learned; chosen on four priced tables, see docs/evidence/learning.md.
TYPICAL_COST = np.array([0.5, 0.5, 0.1])
FLAT = 1e-2  # precision of the shared level: a hundredth of one observation
LARGEST = float(np.finfo(np.float64).max)
FIRST_FIT, REBUILD = 64, 1024  # outcomes before the first maximisation; outcomes between rebuilt inverses
EVIDENCE_ARMS = 32  # arms that (4) is summed over; more would only make the maximisation slower
OTHERS_KEEP = 0.5  # of the evidence on other arms when one has changed: whether they changed too is unknown
OWN_VARIANCE = 32.0  # outcomes from which an arm's own variance, then good to 25 %, outweighs the pool's


class Prediction(NamedTuple):
    """What the model says of one request.

    Attributes:
        mean: outcomes, shape (arms, channels). own, shared: h_a (arms,) and z_a (arms, dim + 1) of (3).
        cost_own: h_a of the costs' regressions, shape (arms,); 0 without costs.
    """

    mean: F64
    own: F64
    shared: F64
    cost_own: F64


def with_level(context: F64) -> F64:
    """The context behind a leading 1."""
    x = np.ones(len(context) + 1)
    x[1:] = context
    return x


class HierarchicalRidge(ScaleAscent):
    """Posterior of the model above, by rank-one updates.

    Args:
        n_arms, dim, channels: sizes; the leading 1 is added here. Channel 0, the quality, follows the model. The others
            are costs: plain ridge regressions of the deviation from the arm's own running mean, because costs differ
            between arms by orders of magnitude, with scales of their own (`TYPICAL_COST`).

    Attributes:
        noise: s. scale, shared_scale: precision of the blocks (level, indicators, numbers) in L and L_0.
        precision: L of every arm, shape (n_arms, dim + 1). firmness: what `add_arm` multiplied an arm's L by.
        count: outcomes per arm (sum of weights). loudness: noise variance of each arm relative to s.
    """

    SAVED = (
        *("gram", "moment", "square", "centre", "count", "costs", "firmness", "loudness", "low", "high", "kind"),
        *("unit", "scale", "shared_scale", "precision", "shared_precision", "outcomes", "loss", "total"),
        *("inverse", "theta", "shared_inverse", "shared_theta", "cost_inverse"),
    )

    inverse: F64
    theta: F64
    shared_inverse: F64
    shared_theta: F64
    cost_inverse: F64
    loudness: F64
    loss: F64
    total: F64

    def __init__(self, n_arms: int, dim: int, channels: int) -> None:
        d = dim + 1
        self.gram = np.zeros((n_arms, d, d))
        self.moment = np.zeros((n_arms, channels + 1, d))  # the last column regresses the constant 1
        self.square, self.count, self.firmness = np.zeros(n_arms), np.zeros(n_arms), np.ones(n_arms)
        self.centre = np.zeros((n_arms, channels + 1, d))
        self.costs = np.zeros((n_arms, 3, channels - 1))  # sums, counts and squared innovations
        self.low, self.high = np.full(d, LARGEST), np.full(d, -LARGEST)  # finite, as snapshots demand
        self.scale, self.shared_scale = TYPICAL[:3] ** -2, np.append(FLAT, TYPICAL[3:] ** -2)
        self.kind, self.unit = np.minimum(np.arange(d), 1), np.append(1.0, np.full(dim, float(dim)))
        self.outcomes = 0
        self._begin()

    @property
    def noise(self) -> float:
        """Variance of an outcome, s of (4)."""
        return float(self.loss / (self.total + 1.0))

    # -- one request ---------------------------------------------------------------------------------------------

    def predict(self, context: F64) -> Prediction:
        """Means and the parts of (3) for every arm."""
        x = with_level(context)
        v = self.inverse @ x
        own = self.theta @ x
        z = v * self.precision
        mean, cost_own = own[:, :-1], np.zeros(len(own))
        mean[:, 0] += z @ self.shared_theta
        if mean.shape[1] > 1:
            mean[:, 1:] += (1.0 - own[:, -1:]) * self.mean_costs()
            cost_own = (self.cost_inverse @ x) @ x
        return Prediction(mean, v @ x, z, cost_own)

    def gap_variance(self, prediction: Prediction, arms: NDArray[np.intp], leader: int) -> F64:
        """Var(a - leader) of the quality for every arm in `arms`, each arm with its own noise. (3)"""
        apart = prediction.shared[arms] - prediction.shared[leader]
        own = prediction.own * self.loudness
        return np.asarray(self.noise * (own[arms] + own[leader] + ((apart @ self.shared_inverse) * apart).sum(axis=1)))

    def odds(self, context: F64, arms: NDArray[np.intp], prices: F64, penalty: F64, temper: float, floor: F64) -> F64:
        """Odds of each of `arms` of beating the leader, normalised, by a posterior of `temper` times the variance.

        What is under `floor`, shape (len(arms),), is raised to it, and all are normalised again.
        """
        prediction = self.predict(context)
        score = (prediction.mean @ prices)[arms] - penalty
        leader = int(score.argmax())
        variance = prices[0] ** 2 * np.maximum(self.gap_variance(prediction, arms, int(arms[leader])), 0.0)
        doubt = (self.cost_noise() @ prices[1:] ** 2 * prediction.cost_own)[arms]
        deviation = np.sqrt(temper * (variance + doubt + doubt[leader])) + 1e-12
        ahead = ndtr((score - score[leader]) / deviation)
        odds = ahead / (1.0 - ahead)
        raised = np.maximum(odds / odds.sum(), floor)
        return np.asarray(raised / raised.sum())

    def coefficients(self, arm: int) -> F64:
        """What the quality of an arm is predicted with, of (1, context); shape (dim + 1,)."""
        shared = self.inverse[arm] @ (self.precision[arm] * self.shared_theta)
        return np.asarray(self.theta[arm, 0] + shared)

    def mean_costs(self) -> F64:
        """Running means of the costs, shape (arms, channels - 1); an arm without any has the others' mean."""
        sums, counts = self.costs[:, 0], self.costs[:, 1]
        everyone = sums.sum(axis=0) / np.maximum(counts.sum(axis=0), 1e-300)
        return np.asarray(np.where(counts > 0, sums / np.maximum(counts, 1e-300), everyone))

    def cost_noise(self) -> F64:
        """Variance of each cost about its prediction, shape (arms, channels - 1); all arms' counts as one outcome."""
        counts, squares = self.costs[:, 1], self.costs[:, 2]
        everyone = squares.sum(axis=0) / np.maximum(counts.sum(axis=0), 1e-300)
        return np.asarray((squares + everyone) / (counts + 1.0))

    def learn(self, arm: int, context: F64, y: F64, weight: float) -> tuple[float, float]:
        """Fold one outcome in; returns the innovation y - mean of the quality, raw and in predicted deviations."""
        told = self._fold(arm, context, y, weight)
        self.outcomes += 1
        self._tune()
        return told

    def _tune(self) -> None:
        n = self.outcomes
        doubled = n >= FIRST_FIT and n & (n - 1) == 0
        if doubled:
            self.maximise()
        if doubled or n % REBUILD == 0:
            self.fit()

    def _fold(self, arm: int, context: F64, y: F64, weight: float) -> tuple[float, float]:
        x = with_level(context)
        np.minimum(self.low, x, out=self.low)
        np.maximum(self.high, x, out=self.high)
        v = self.inverse[arm] @ x
        z = self.precision[arm] * v
        pz = self.shared_inverse @ z
        own = self.theta[arm] @ x
        noise = self.noise * float(self.loudness[arm])
        innovation = float(y[0] - own[0] - z.dot(self.shared_theta))
        gain = weight / (1.0 + weight * float(x.dot(v)))
        shared_gain = gain / (1.0 + gain * float(z.dot(pz)))
        surprise = innovation / math.sqrt(noise * weight / shared_gain)
        gains, directions = np.full(len(own), gain), np.tile(v, (len(own), 1))
        if len(y) > 1:
            directions[1:] = w = self.cost_inverse[arm] @ x
            cost_own = float(x.dot(w))
            gains[1:] = weight / (1.0 + weight * cost_own)
            target = self._target(arm, y, own, weight, cost_own)
            self.cost_inverse[arm] -= (gains[1] * w)[:, None] * w  # Sherman-Morrison
        else:
            target = np.append(y, 1.0)
        self.shared_theta += (shared_gain * innovation) * pz  # (2)
        self.shared_inverse -= (shared_gain * pz)[:, None] * pz  # Sherman-Morrison
        self.theta[arm] += (gains * (target - own))[:, None] * directions
        self.inverse[arm] -= (gain * v)[:, None] * v  # Sherman-Morrison
        offset = target - self.centre[arm] @ x
        self.gram[arm] += (weight * x)[:, None] * x
        self.moment[arm] += (weight * offset)[:, None] * x
        self.square[arm] += weight * offset[0] ** 2
        self.count[arm] += weight
        self.loss += shared_gain * innovation**2  # R of (4), one prediction at a time
        self.total += weight
        return innovation, surprise

    def _target(self, arm: int, y: F64, own: F64, weight: float, cost_own: float) -> F64:
        """What the columns regress: y and 1. An unmetered cost is its own prediction, which changes nothing."""
        guess = own[1:-1] + (1.0 - own[-1]) * self.mean_costs()[arm]
        known, metered = self.costs[:, 1].sum(axis=0) > 0, ~np.isnan(y[1:])
        innovation = np.where(known, y[1:] - guess, 0.0)
        told = np.array([y[1:], np.ones(len(guess)), innovation**2 / (1.0 + cost_own)])
        self.costs[arm] += np.where(metered, weight * told, 0.0)
        return np.concatenate([y[:1], np.where(metered, y[1:], guess), [1.0]])

    def restart(self, arm: int, keep: float, shift: float) -> None:
        """An arm has changed: its evidence counts for `keep` times as much, and its quality is `shift` higher."""
        moment, gram = self.moment[arm], self.gram[arm]
        self.square[arm] += 2 * shift * moment[0, 0] + shift**2 * gram[0, 0]
        moment[0] += shift * gram[0]
        kept = np.full(len(self.count), OTHERS_KEEP)
        kept[arm] = keep
        self._multiply(kept)
        self._refit(kept)

    def replace(self, arm: int, sums: Mapping[str, F64], returned: F64) -> None:
        """An arm's evidence becomes `sums`, by name; that of the others counts `returned` times."""
        self._multiply(returned)
        for name in sums:
            getattr(self, name)[arm] = sums[name]
        self._replaced(arm, returned)

    def _multiply(self, kept: F64) -> None:
        for sums in (self.gram, self.moment, self.square, self.count):
            sums *= kept.reshape(-1, *(1,) * (sums.ndim - 1))

    def add_arm(self, like: int | None, strength: float) -> None:
        """Append an arm at theta_0, or centred on another arm's estimate; see `Policy.add_arm`."""
        for name in ("gram", "moment", "square", "count", "costs", "centre"):
            sums = getattr(self, name)
            setattr(self, name, np.concatenate([sums, np.zeros_like(sums[:1])]))
        self.firmness = np.append(self.firmness, 1.0)
        if like is not None:
            self._copy(like, strength)
        self._grown()

    def _copy(self, like: int, strength: float) -> None:
        """The new arm deviates from the other's estimate and not from theta_0, with `strength` times the precision."""
        self.centre[-1] = self.theta[like]
        self.centre[-1, 0] = self.coefficients(like) - self.shared_theta
        self.costs[-1] = self.costs[like] * strength / np.maximum(self.count[like], strength)
        self.firmness[-1] = strength

    # -- all outcomes so far -------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """The posterior without outcomes."""
        self.fit()

    def _refit(self, kept: F64) -> None:
        """The posterior after the sums of the arms have been multiplied by `kept`."""
        self.fit()

    def _replaced(self, arm: int, returned: F64) -> None:
        """The posterior after `replace` has changed the sums."""
        self.fit()

    def _grown(self) -> None:
        """The posterior after an arm without outcomes has been appended."""
        self.fit()

    def fit(self) -> None:
        """Solve (1), (2) and (4) anew at the current scales."""
        self.precision, self.shared_precision = self._diagonals(self.scale, self.shared_scale)
        solved = self._solve(self.precision, self.shared_precision, slice(None))
        self.inverse, own, self.shared_inverse, self.shared_theta, loss = solved
        self.cost_inverse = self.inverse[:0]
        if own.shape[1] > 2:
            own = own.copy()
            self.cost_inverse = self._inverse(self._diagonals(TYPICAL_COST**-2, self.shared_scale)[0], slice(None))
            own[:, 1:] = self.moment[:, 1:] @ self.cost_inverse
        self.total, self.loss = np.asarray(self.count.sum()), np.asarray(loss)
        self.theta = own + self.centre
        whole = own[:, 0] + ((self.precision * self.shared_theta)[:, None] @ self.inverse)[:, 0]
        apart = whole - self.shared_theta
        residual = (
            self.square
            - 2 * (whole * self.moment[:, 0]).sum(1)
            + ((self.gram @ whole[..., None])[..., 0] * whole).sum(1)
        )
        residual += np.where(self.count > 0, (apart**2 * self.precision).sum(axis=1), 0.0)
        variance = (OWN_VARIANCE * self.noise + np.maximum(residual, 0.0)) / (OWN_VARIANCE + self.count)
        self.loudness = variance / self.noise
        self._settled()

    def _settled(self) -> None:
        """A hook: the arrays are new ones."""

    def _solve(self, precision: F64, shared_precision: F64, arms: slice) -> tuple[F64, F64, F64, F64, float]:
        """A^-1, t, P^-1, theta_0 and R."""
        moment, inverse = self.moment[arms], self._inverse(precision, arms)
        own = moment @ inverse
        shrunk = (precision[arms, :, None] * inverse * precision[arms, None, :]).sum(axis=0)
        shared_inverse: F64 = np.asarray(
            np.linalg.inv(np.diag(shared_precision + precision[arms].sum(axis=0)) - shrunk), dtype=np.float64
        )
        q = (precision[arms] * own[:, 0]).sum(axis=0)
        shared = shared_inverse @ q
        loss = LARGEST_VARIANCE + self.square[arms].sum() - (moment[:, 0] * own[:, 0]).sum() - q.dot(shared)
        return inverse, own, shared_inverse, shared, max(float(loss), 1e-12)

    def _inverse(self, precision: F64, arms: slice) -> F64:
        """A^-1 of some arms."""
        prior = precision[arms, :, None] * np.eye(precision.shape[1])
        return np.asarray(np.linalg.inv(self.gram[arms] + prior), dtype=np.float64)

    def _diagonals(self, scale: F64, shared_scale: F64) -> tuple[F64, F64]:
        own = scale[self.kind] * self.unit
        return self.firmness[:, None] * own, shared_scale[self.kind] * self.unit

    def _sort_columns(self) -> None:
        """Block of each column (0 constant so far, 1 indicator, 2 number) and the unit of its precision."""
        sums, squares = self.gram[:, 0].sum(axis=0), self.gram.diagonal(axis1=1, axis2=2).sum(axis=0)
        binary = (self.low >= 0.0) & (self.high <= 1.0) & (sums == squares)
        self.kind = np.where(self.low >= self.high, 0, np.where(binary, 1, 2))
        mean_square = squares / max(1.0, float(self.total))
        size = np.bincount(self.kind, minlength=3)
        active = np.bincount(self.kind, weights=mean_square, minlength=3)
        unit = np.where(self.kind == 2, mean_square * size[2], active[self.kind])
        self.unit = np.where(unit > 0, unit, 1.0)

    def evidence(self, scale: F64, shared_scale: F64) -> float:
        """(4) plus the prior of the scales."""
        precision, shared_precision = self._diagonals(scale, shared_scale)
        arms = slice(None, None, -(-len(self.count) // EVIDENCE_ARMS))
        inverse, _, shared_inverse, _, loss = self._solve(precision, shared_precision, arms)
        logs = np.linalg.slogdet(inverse)[1].sum() + np.linalg.slogdet(shared_inverse)[1]
        logs += np.log(precision[arms]).sum() + np.log(shared_precision).sum()
        return float(logs / 2 + self._prior(scale, shared_scale) - (self.count[arms].sum() + 1.0) / 2 * np.log(loss))

    def _prior(self, scale: F64, shared_scale: F64) -> float:
        ratio = np.concatenate([scale, shared_scale[1:]]) ** -0.5 / TYPICAL
        return float((np.log(ratio) - np.log1p(ratio**2)).sum())

    def maximise(self) -> None:
        """Sort the columns into blocks, then climb (4)."""
        self._sort_columns()
        self.begin_climb()
        more = True
        while more:
            scales = self.candidate()
            more = self.consider(scales, self.evidence(*scales))

    # -- state ---------------------------------------------------------------------------------------------------

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Sums, scales and the posterior itself, so that a reload chooses exactly as before."""
        return {name: np.asarray(getattr(self, name)) for name in self.SAVED}

    def restore(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Take over saved arrays."""
        for name in self.SAVED:
            setattr(self, name, arrays[name].astype(np.asarray(getattr(self, name)).dtype))
        self.outcomes = int(self.outcomes)
        self._settled()
