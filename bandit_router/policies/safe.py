"""Insurance against the best single arm: exponential weights on what each fixed arm would have gained over us."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bandit_router.arrays import F64, Index
from bandit_router.declared import PART


class ArmInsurance:
    """Moves traffic from a policy to single arms as far as they have beaten it, whatever the stream.

    With loss l = 1 - utility, propensity p of the arm played, and R_a = sum_t (l_t - 1[a_t = a] l_t / p_t), an unbiased
    estimate of what always playing a would have gained over what was played,

        p is proportional to (1 - premium) q + sum_a v_a e_a,    v_a = (premium / K) exp(rate_t R_a),
        rate_t = sqrt(log(K / premium) / (K t)),

    where q is the policy's distribution and e_a plays a. At the start the arms hold a share of `premium`; a worse arm's
    share vanishes exponentially.

    Bound. For utilities in [0, 1] that do not react to the draws, constant prices, all arms eligible, and any q, the
    expected shortfall against every single arm after T requests is at most

        [log(K / premium) + log(1 + rate T)] / rate + rate K T,     about 2 sqrt(K T log(K / premium)) and logs of T.

    Proof, for a constant rate: let F = (1 - premium) + sum v. As the steps of R are at most 1, exp(x) <= 1 + x + x^2
    gives E[F'] <= F + rate sum v (E R_a-step) + rate^2 sum v E(R_a-step)^2. The first sum is (1 - premium) times
    what p gains over q, at most 1; in the second p_a >= v_a / F, so it is at most F K. Hence
    E[F_T] <= (1 + rate T) exp(rate^2 K T), while log F_T >= log(premium / K) + rate R_a. It is the argument of Exp4
    (Auer, Cesa-Bianchi, Freund & Schapire 2002, SIAM J. Comput. 32(1), section 7) for the arms as experts, with the
    policy in place of a further expert; a rate that falls with t costs a constant factor.

    Args:
        n_arms, channels: sizes. Sums are kept per channel, so that prices may be set later; an unmetered cost counts 0.
        premium: share of the traffic that the arms hold together at the start, in [0, 1); 0 insures nothing.

    Raises:
        InvalidInput: a premium outside [0, 1).
    """

    def __init__(self, n_arms: int, channels: int, *, premium: float) -> None:
        PART.require("premium", premium)
        self.premium = premium
        self.weighted = np.zeros((n_arms, channels + 1))  # sums of outcome / p and of 1 / p, where a was played
        self.own = np.zeros(channels + 1)  # sums of outcome and of 1

    def regret(self, prices: F64) -> F64:
        """R_a of every arm, shape (n_arms,)."""
        return np.asarray((self.weighted - self.own) @ np.append(prices, -1.0))

    def mix(self, q: F64, arms: Index, prices: F64) -> F64:
        """The distribution above over `arms`, given the policy's own."""
        if self.premium == 0.0:
            return q
        n_arms, t = len(self.weighted), max(1.0, float(self.own[-1]))
        rate = np.sqrt(np.log(n_arms / self.premium) / (n_arms * t))
        claims = self.premium / n_arms * np.exp(np.minimum(rate * self.regret(prices)[arms], 500.0))
        share = (1.0 - self.premium) * q + claims
        return np.asarray(share / share.sum())

    def learn(self, arm: int, y: F64, weight: float, propensity: float) -> None:
        """Account one outcome of the arm that was played; nothing to account without a premium."""
        if self.premium == 0.0:
            return
        gained = weight * np.append(np.nan_to_num(y), 1.0)
        self.own += gained
        self.weighted[arm] += gained / propensity

    def add_arm(self) -> None:
        """A new arm starts even with what was played so far."""
        self.weighted = np.concatenate([self.weighted, self.own[None]])

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The sums by name."""
        return {"insurance.weighted": self.weighted, "insurance.own": self.own}

    def restore(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Take over saved sums."""
        self.weighted, self.own = arrays["insurance.weighted"], arrays["insurance.own"]
