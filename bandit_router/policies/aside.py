"""What an alarm sets aside: an arm's evidence from before a change, kept until it explains the arm better again.

An alarm says that an arm is not what it was, not that it will stay so: a provider that fails for a minute is back in
the next. So there are two accounts of such an arm, the evidence since the change (the model's) and that from before
(kept here), and each outcome y of the arm is a vote between their predictions, with noise variance s:

    E <- max(0, E + vote),   vote = [(y - mean_since)^2 - (y - mean_before)^2] / (2 s), within +- `LARGEST_VOTE`.

The old account returns when E, a CUSUM of log-likelihood ratios (Page 1954, "Continuous inspection schemes", Biometrika
41), exceeds max(1, `FIRMNESS` log(n / `BRIEF`)) after n of the arm's outcomes since the change began: the more of them
the new account has explained, the more is asked of the old one.

Probes. An arm that looks bad is not played, so nothing is learned of its return. With u its age at its last outcome,
counted in outcomes of all arms and divided by exp(EAGER E) as far as it has done well since, and g outcomes gone by, an
arm that fell by m noise deviations is played with a probability of at least

    min(1, m^2 / 2) SPACING g / (u + g)^2,   at most `LARGEST_PROBE`.

m^2 / 2 is what one outcome tells, in nats: a probe that tells little is not worth its price. For m^2 >= 2 half of all
next probes come by 1.2 u, so a dead arm's probes grow like the logarithm of its age, and a good one brings the next
within a few requests. Where outcomes are late or never come the probability still falls, to SPACING / g.

The constants were chosen on made streams of two to ten arms, outages and bursts of false zeros.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bandit_router.arrays import F64
from bandit_router.policies.hierarchical import OTHERS_KEEP, HierarchicalRidge

LARGEST_VOTE = 3.0  # nats
FIRMNESS, BRIEF = 2.5, 6.0
SPACING, EAGER = 40.0, 1.5
LARGEST_PROBE = 0.5
SUMS = ("gram", "moment", "square", "count")


class Aside:
    """Evidence set aside, at most one account an arm, over the sums of a model.

    Args:
        model: whose evidence it is.

    Attributes:
        gram, moment, square, count: sums as in the model; an arm with count 0 has nothing aside.
        before: the arm's coefficients before the change, shape (n_arms, dim + 1).
        began, last: outcomes of all arms when the change began and at the arm's last one, shape (n_arms,).
        seen: n. votes: E. noise: s. fell: min(1, m^2 / 2), 0 for a change for the better. All of shape (n_arms,).
        lent: evidence, in outcomes, that the latest alarm took from the other arms, shape (n_arms,).
        latest: the arm of that alarm, or -1. held: the arms that have an account.
    """

    SAVED = (*SUMS, "before", "began", "last", "seen", "votes", "noise", "fell", "lent", "latest")

    gram: F64
    moment: F64
    square: F64
    count: F64
    began: F64
    last: F64
    seen: F64
    votes: F64
    noise: F64
    fell: F64

    def __init__(self, model: HierarchicalRidge) -> None:
        for name in SUMS:
            setattr(self, name, np.zeros(getattr(model, name).shape))
        self.before = np.zeros(model.precision.shape)
        for name in self.SAVED[5:-1]:
            setattr(self, name, np.zeros(len(self.count)))
        self.latest = np.asarray(-1)
        self.held: list[int] = []

    def put(self, model: HierarchicalRidge, arm: int, step: int, length: float, drift: float) -> float:
        """Keep what the model knows of the arm, but for its last `length` outcomes, which were `drift` off in the mean.

        Returns the share of the arm's evidence that those outcomes are. An account of more outcomes stays.
        """
        share = min(1.0, length / float(model.count[arm]))
        self.lent = (1.0 - OTHERS_KEEP) * model.count
        self.lent[arm], self.latest = 0.0, np.asarray(arm)
        if model.count[arm] > self.count[arm]:
            self._copy(model, arm, share, -share * drift)
        if drift < 0 or self.seen[arm] == 0.0:
            self.began[arm], self.seen[arm] = step - length, length
            self.noise[arm] = model.noise * model.loudness[arm]
            self.fell[arm] = min(1.0, drift**2 / (2.0 * self.noise[arm])) if drift < 0 else 0.0
        self.last[arm], self.votes[arm] = step, 0.0
        self.held = np.flatnonzero(self.count).tolist()
        return share

    def _copy(self, model: HierarchicalRidge, arm: int, without: float, raised: float) -> None:
        """The arm's sums but for a share of them, its level `raised` by what that share had done to it."""
        for name in SUMS:
            getattr(self, name)[arm] = (1.0 - without) * getattr(model, name)[arm]
        self.square[arm] += 2 * raised * self.moment[arm, 0, 0] + raised**2 * self.gram[arm, 0, 0]
        self.moment[arm, 0] += raised * self.gram[arm, 0]
        self.before[arm] = model.coefficients(arm)
        self.before[arm, 0] += raised

    def explains(self, arm: int, x: F64, quality: float, innovation: float, step: int) -> bool:
        """Count the vote of an outcome, `innovation` off the model; whether the old account is the better one now."""
        off = quality - self.before[arm, 0] - float(self.before[arm, 1:] @ x)
        vote = (innovation**2 - off**2) / (2.0 * self.noise[arm])
        self.votes[arm] = max(0.0, self.votes[arm] + min(max(vote, -LARGEST_VOTE), LARGEST_VOTE))
        self.last[arm] = step
        self.seen[arm] += 1.0
        return bool(self.votes[arm] > max(1.0, FIRMNESS * math.log(self.seen[arm] / BRIEF)))

    def give_back(self, model: HierarchicalRidge, arm: int) -> None:
        """Return the arm's old evidence to the model, and to the other arms what its alarm took from them."""
        returned = np.ones(len(model.count))
        if arm == self.latest:
            returned += self.lent / np.maximum(model.count, 1e-300)
            self.latest = np.asarray(-1)
        model.replace(arm, {name: getattr(self, name)[arm] for name in SUMS}, returned)
        self.count[arm] = self.seen[arm] = 0.0
        self.held.remove(arm)

    def raise_floor(self, floor: F64, step: int) -> None:
        """Raise the floor of each arm that fell to its probe's probability, in place."""
        for arm in self.held:
            gone = step - self.last[arm] + 1.0
            age = (self.last[arm] - self.began[arm]) * math.exp(-EAGER * self.votes[arm])
            probe = self.fell[arm] * SPACING * gone / (age + gone) ** 2
            floor[arm] = max(floor[arm], min(LARGEST_PROBE, probe))

    def add_arm(self) -> None:
        """A new arm has nothing aside."""
        for name in self.SAVED[:-1]:
            values = getattr(self, name)
            setattr(self, name, np.concatenate([values, np.zeros_like(values[:1])]))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything by name."""
        return {f"aside.{name}": getattr(self, name) for name in self.SAVED}

    def restore(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Take over saved arrays."""
        for name in self.SAVED:
            setattr(self, name, arrays[f"aside.{name}"])
        self.held = np.flatnonzero(self.count).tolist()
