"""A policy of your own: explore first, then play the best mean. Checked by the laws that every shipped policy obeys.

A policy answers one question, the distribution that the next arm is drawn from; drawing, logging and pricing are the
engine's. Its settings are declared, with default and check, and one constructor reads them. Whatever it has learned
goes through `_arrays` and `_restore`, here inherited from `MeanPolicy`.
"""

import numpy as np

from bandit_router import (
    CHANNELS,
    COUNT,
    F64,
    SHARE,
    Arm,
    Index,
    MeanPolicy,
    Outcome,
    Router,
    check_policy,
    greedy,
    setting,
)


class ExploreFirst(MeanPolicy):
    """Play every arm `rounds` times, in order, then mostly the best one."""

    rounds: int = setting(default=5, check=COUNT, unit="plays of each arm")
    floor: float = setting(default=0.01, check=SHARE, unit="share of the traffic")

    def _distribution(self, x: F64, arms: Index, prices: F64, penalty: F64) -> F64:
        missing = self.rounds - self.counts[arms, 0]
        if (missing > 0).any():
            return np.eye(len(arms))[(missing > 0).argmax()]
        return greedy((self.means() @ prices)[arms] - penalty, self.floor)


class Careless(ExploreFirst):
    """The same with a defect: it forgets what it learned when it is saved and loaded."""

    def _arrays(self) -> dict[str, F64]:
        return {}

    def _restore(self, arrays: dict[str, F64]) -> None:
        pass


check_policy(ExploreFirst)
print("ExploreFirst obeys the laws")
try:
    check_policy(Careless)
except AssertionError as broken:
    print("Careless does not:", str(broken).split(":")[0].replace("_", " "))

policy = ExploreFirst(n_arms=2, dim=1, channels=len(CHANNELS))
router = Router(arms=[Arm(id="small"), Arm(id="large")], context=1, policy=policy, key=b"example")
arms = []
for i in range(100):
    decision = router.decide([1.0], event_id=f"request-{i}")
    router.observe(decision.event_id, Outcome(quality={"small": 0.6, "large": 0.8}[decision.arm]))
    arms.append(decision.arm)
print("first ten:", *arms[:10])
print("of the other ninety to large:", arms[10:].count("large"))
