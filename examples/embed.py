"""A serving loop: which of two models answers, learned from judged answers and their bills.

The models are made up so that the example runs anywhere: the large one is better on hard questions and costs ten times
as much. Nothing here tells the router which questions are hard for whom.
"""

import random
from collections import Counter

from bandit_router import Arm, Objective, Outcome, Router

chance = random.Random(0)


def answer(arm: str, hard: bool) -> Outcome:
    """Call a model, judge the answer, read the bill."""
    good = {"small": 0.3 if hard else 0.9, "large": 0.9}[arm]
    return Outcome(quality=float(chance.random() < good), cost_usd={"small": 0.001, "large": 0.01}[arm], latency_s=0.5)


router = Router(
    arms=[Arm(id="small"), Arm(id="large")],
    context=3,
    policy="LinTS",
    objective=Objective(prices={"cost_usd": 0.2}, scales={"cost_usd": 0.01}),
    key=b"example",  # a secret of your own: it makes the draws repeatable for you and unpredictable for others
)


def serve(requests: range) -> None:
    """Decide, call, observe; print which model served which kind of question."""
    served: Counter[tuple[str, str]] = Counter()
    rewards = []
    for i in requests:
        hard = chance.random() < 0.5
        context = [1.0, float(hard), float(not hard)]
        decision = router.decide(context, event_id=f"request-{i}")
        settlement = router.observe(decision.event_id, answer(decision.arm, hard))
        rewards.append(settlement.reward or 0.0)
        served["hard" if hard else "easy", decision.arm] += 1
    for kind in ("easy", "hard"):
        total = sum(served[kind, arm] for arm in ("small", "large"))
        print(f"  {kind}: {served[kind, 'small'] / total:.0%} small, {served[kind, 'large'] / total:.0%} large")
    print(f"  mean reward {sum(rewards) / len(rewards):.2f}")


print("the first 200 requests")
serve(range(200))
print("the next 2,000")
serve(range(200, 2200))

router.set_prices({"cost_usd": 1.0})
print("2,000 more, the price of a dollar raised fivefold: nothing is relearned")
serve(range(2200, 4200))

print("why request-4199 went where it went")
explanation = router.explain(router.decide([1.0, 0.0, 1.0], event_id="request-4199"))  # a known id: not drawn again
print(f"  chosen {explanation.chosen}, runner-up {explanation.runner_up}")
for arm in explanation.arms:
    print(f"  {arm.arm}: mean {arm.mean:.2f}, bonus {arm.bonus:.2f}, probability {arm.propensity:.3f}")

late = router.observe("request-4199", Outcome(quality=1.0, cost_usd=0.001))
print(f"a second reward for a settled request is refused: {late.refused}")
