"""A cascade on the real table that ships with the package: ask the small model, look, and escalate when it is worth it.

The look is a judge of the first answer whose score is off by 0.1 on average (simulated: the real score plus noise).
Nothing tells the router at which score to stop; it learns that from served answers and their bills.
"""

import random

from bandit_router import (
    GATE_ARMS,
    Arm,
    Cascade,
    Objective,
    Outcome,
    PolicySpec,
    Router,
    TableEnvironment,
    load_table,
)

SMALL, LARGE = "meta-llama/llama-3.1-8b-instruct", "mistralai/mistral-large-2512"

environment = TableEnvironment(load_table("models_llm"), contexts=["task"])
column = {arm.id: i for i, arm in enumerate(environment.arms)}
objective = Objective(prices={"cost_usd": 0.2}, scales={"cost_usd": 0.0005})  # the large model's mean bill weighs 0.2
judge = random.Random(0)

options = {"policy": PolicySpec(name="LinTS", settings={"noise": 0.3}), "objective": objective, "key": b"example"}
cascade = Cascade(
    first=Router(arms=[Arm(id=SMALL), Arm(id=LARGE)], context=environment.dim, **options),
    gate=Router(arms=GATE_ARMS, context=environment.dim + 1, **options),
    last=LARGE,
)

rewards, log, served = [], [], []
for block in environment.blocks(seed=0, horizon=environment.horizon):
    for context, outcomes in zip(block.contexts, block.outcomes, strict=True):
        answers = {arm: Outcome(quality=row[0], cost_usd=row[1]) for arm, row in zip(column, outcomes, strict=True)}
        decision = cascade.decide(context, event_id=f"request-{len(rewards)}")
        first = answers[decision.arm]
        score = first.quality + judge.gauss(0, 0.1)
        escalated = cascade.escalates(decision, signals=score)
        settlement = cascade.observe(decision.event_id, first, answers[LARGE] if escalated else None)
        rewards.append(settlement.reward)
        served.append(answers)
        log.append((decision, escalated, score))

late = log[1000:]
small = [(escalated, score) for decision, escalated, score in late if decision.arm == SMALL]
print(f"after 1,000 of {len(log):,} requests:")
print(f"  begin with the small model: {len(small) / len(late):.0%}")
for low, high in ((-1.0, 0.5), (0.5, 0.8), (0.8, 2.0)):
    inside = [escalated for escalated, score in small if low <= score < high]
    print(f"  escalate at a score of {max(low, 0)} to {min(high, 1)}: {sum(inside) / len(inside):.0%} of {len(inside)}")
print(f"  mean utility {sum(rewards[1000:]) / len(late):.3f}")
for arm in (SMALL, LARGE):
    alone = [objective.utility.value(answers[arm]) for answers in served[1000:]]
    print(f"  {arm} alone: {sum(alone) / len(alone):.3f}")

decision = next(decision for decision, escalated, _ in reversed(log) if escalated)
gate = cascade.gate.events.find(decision.event_id + ":gate")
print(f"{decision.event_id}: began with {decision.arm} by propensity {decision.propensity:.3f}")
print(f"{gate.event_id}: {gate.arm} by propensity {gate.propensity:.3f}")
