"""A policy of your own: explore first, then play the best mean. Checked by the laws that every shipped policy obeys.

A policy answers one question, the distribution that the next arm is drawn from; drawing, logging and pricing are the
engine's. Whatever it has learned goes through `_arrays` and `_restore`, here inherited from `MeanPolicy`.
"""

import numpy as np

from bandit_router import CHANNELS, F64, Arm, Index, InvalidInput, MeanPolicy, Outcome, Router, greedy
from bandit_router.testing import check_policy


class ExploreFirst(MeanPolicy):
    """Play every arm `rounds` times, in order, then mostly the best one."""

    def __init__(self, *, n_arms: int, dim: int, channels: int = 1, rounds: int = 5, floor: float = 0.01) -> None:
        if rounds < 1:
            raise InvalidInput(f"rounds must be at least 1, got {rounds}")
        super().__init__(n_arms=n_arms, dim=dim, channels=channels)
        self.rounds, self.floor = rounds, floor

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
