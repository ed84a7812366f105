"""Information-directed sampling over linear models."""

from __future__ import annotations

import numpy as np
from scipy.special import log_ndtr

from bandit_router.arrays import F64, Index
from bandit_router.declared import POSITIVE, SHARE, setting
from bandit_router.policies.distributions import mix
from bandit_router.policies.linear import Rule
from bandit_router.policies.linear_base import LinearPolicy

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(12)
_BREAKS = np.array([-6.0, -4.0, -2.8, -1.9, -1.2, -0.6, 0.0, 0.6, 1.2, 1.9, 2.8, 4.0, 6.0])


class LinIDS(LinearPolicy):
    """Pay little regret for much knowledge of which arm is best.

        p minimises (p . regret)^2 / (p . information)
        regret_a = E[max score] - E[score_a],   information_a = Var_b(E[score_a | b is the best])

    over the scores' posterior, the one of `LinTS`. The minimum is reached by a mixture of two arms. Unlike Thompson
    sampling it plays no arm that teaches nothing, and may play one that cannot be best if it teaches much.

    Args:
        n_arms, dim, channels, ridge, forgetting, precision: see `LinearPolicy`.
        noise: standard deviation of the utility around its mean, in utility units; it scales all posteriors.
        floor: share of the traffic spread evenly over the eligible arms.

    The expectations are integrals on Gauss-Legendre panels, accurate to about 1e-4, not Monte Carlo averages, so the
    propensity is exact for the distribution played. Cost per step grows with the square of the number of arms. Disjoint
    arms share no parameter, so here an arm teaches about itself alone; the bound holds for that case as well.

    Source: Russo & Van Roy 2018 (arXiv 1403.5556), section 6.3 (variance-based), Proposition 6 (two arms suffice).

    Example:
        >>> policy = LinIDS(n_arms=2, dim=1, noise=1.0, floor=0.0)
        >>> for _ in range(50):
        ...     policy.learn([1.0], arm=0, outcome=[0.5])
        >>> policy.probabilities([1.0]).round(2).tolist()
        [0.58, 0.42]
    """

    noise: float = setting(default=0.2, check=POSITIVE, unit="utility")
    floor: float = setting(default=0.01, check=SHARE, unit="share of the traffic")

    def _rule(self, steps: int) -> Rule:
        return Rule("wins", self.noise)  # the widths that explanations show; the distribution is this class's own

    def _distribution(self, x: F64, arms: Index, prices: F64, penalty: F64) -> F64:
        mean, width = self.statistics.predict(x)
        scores, sd = (mean @ prices)[arms] - penalty, self.noise * width[arms]
        return mix(information_directed(*regret_and_information(scores, sd)), self.floor)


def regret_and_information(mean: F64, sd: F64) -> tuple[F64, F64]:
    """Expected regret and information of each of several independent normal scores.

    With f_b(s) the density of b's score and F its distribution function, given that b is the best at s the others are
    normals cut off at s:  E[score_a | b best at s] = mean_a - sd_a * f(z) / F(z), z = (s - mean_a) / sd_a.
    """
    sd = np.maximum(sd, 1e-6 * max(float(sd.max()), 1e-9))
    points, weights = _grid(mean, sd)
    z = (points - mean[:, None]) / sd[:, None]
    log_density, log_cdf = -0.5 * z * z - 0.5 * np.log(2 * np.pi), log_ndtr(z)
    others = np.exp(np.maximum(log_cdf.sum(axis=0) - log_cdf, -700.0))
    best_at = np.exp(log_density) / sd[:, None] * others * weights  # joint mass of (b is best, at s)
    wins = best_at.sum(axis=1)
    cut_off = mean[:, None] - sd[:, None] * np.exp(log_density - log_cdf)
    joint = best_at @ cut_off.T  # E[score_a; b best], shape (b, a), right off the diagonal
    np.fill_diagonal(joint, best_at @ points)
    given = joint / np.maximum(wins, 1e-300)[:, None]
    regret = float(joint.trace()) / wins.sum() - mean
    information = (wins[:, None] * (given - mean) ** 2).sum(axis=0) / wins.sum()
    return np.maximum(regret, 0.0), information


def information_directed(regret: F64, information: F64) -> F64:
    """The mixture q on arm i, 1 - q on arm j, that has the least squared regret per information.

    For a pair, (r_j + q (r_i - r_j))^2 / (g_j + q (g_i - g_j)) is convex in q, with its minimum at an end or at
    q = r_j / (r_i - r_j) - 2 g_j / (g_i - g_j).
    """
    p = np.zeros(len(regret))
    if not information.max() > 0 or regret.min() <= 0:
        p[regret.argmin()] = 1.0
        return p
    slope = regret[:, None] - regret[None, :]
    gain = information[:, None] - information[None, :]
    with np.errstate(divide="ignore", invalid="ignore"):
        inner = regret[None, :] / slope - 2.0 * information[None, :] / gain  # d/dq of the ratio is 0
    shares = np.stack([np.clip(np.nan_to_num(inner, nan=1.0, posinf=1.0, neginf=0.0), 0.0, 1.0), np.ones_like(inner)])
    cost = (regret[None, :] + shares * slope) ** 2
    ratio = cost / np.maximum(information[None, :] + shares * gain, 1e-300)
    which, i, j = np.unravel_index(int(ratio.argmin()), ratio.shape)
    p[j] += 1.0 - shares[which, i, j]
    p[i] += shares[which, i, j]
    return p


def _grid(mean: F64, sd: F64) -> tuple[F64, F64]:
    """Points and weights on panels at every arm's own scale, from the largest lower tail up."""
    edges = np.unique(mean[:, None] + sd[:, None] * _BREAKS)
    edges = edges[edges >= (mean + sd * _BREAKS[0]).max()]
    half = np.diff(edges)[:, None] / 2
    middle = (edges[:-1] + edges[1:])[:, None] / 2
    return (middle + half * _NODES).ravel(), (half * _WEIGHTS).ravel()
