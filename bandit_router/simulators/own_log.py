"""What a router logs of itself in a simulation: each decision with its propensity and its outcome."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import numpy as np

from bandit_router.arrays import F64, Index
from bandit_router.errors import InvalidInput
from bandit_router.policies.base import utility
from bandit_router.records.outcomes import Outcome
from bandit_router.routing.config import PolicySection, RouterConfig
from bandit_router.routing.groups import Objective
from bandit_router.routing.router import Router
from bandit_router.simulators.arena import Arena
from bandit_router.simulators.environment import Environment, draws
from bandit_router.simulators.scenario import Scenario
from bandit_router.simulators.trace import TraceEnvironment


class OwnLog(NamedTuple):
    """One stream as the router logged it.

    Attributes:
        contexts: shape (n, dim). arm: index of the served arm, shape (n,). propensity: shape (n,).
        outcomes: shape (n, channels), in the environment's channels. utility: mean expected utility of a request.
    """

    contexts: F64
    arm: Index
    propensity: F64
    outcomes: F64
    utility: float


def router_of(scenario: Scenario, arena: Arena) -> RouterConfig:
    """The router that a scenario serves: its file's, or its first policy at its prices.

    Raises:
        InvalidInput: the scenario has paging, or a trace that names its arms.
    """
    environment = arena.environment
    if arena.paging is not None or isinstance(environment, TraceEnvironment):
        raise InvalidInput(f"scenario {scenario.name} has paging or a trace; take one without, such as models/llm")
    if arena.served is not None:
        return arena.served.config
    policy = scenario.policies[0]
    return RouterConfig(
        arms=environment.arms,
        context=environment.dim,
        policy=PolicySection(name=policy.name, settings=policy.settings),
        objective=Objective(prices=scenario.prices, scales=environment.scales, channels=environment.channels),
    )


def own_log(config: RouterConfig, arena: Arena, *, share: float, seed: int) -> OwnLog:
    """The log of a router with this `explore_share` on one stream; its luck is the same at every share."""
    environment: Environment = arena.environment  # type: ignore[assignment]
    rollout = msgspec.structs.replace(config.rollout, explore_share=share)
    changed = msgspec.structs.replace(config, rollout=rollout)
    key = f"{environment.name}:{seed}".encode()[:64]
    router, luck = Router(**changed.arguments(context=environment.dim, key=key)), [0.0]
    router.chooser.uniform = lambda _: luck[0]
    contexts, arms, propensities, outcomes, means = [], [], [], [], []
    for index, block in enumerate(environment.blocks(seed, arena.horizon)):
        uniforms = draws(environment.name, seed, index, len(block.contexts))
        for row, x in enumerate(block.contexts):
            luck[0] = float(uniforms[row])
            decision = router.decide(x, event_id=f"{index}-{row}", unit=f"{index}-{row}")
            y = block.outcomes[row, decision.arm_index]
            known = {name: float(v) for name, v in zip(environment.channels, y, strict=True) if np.isfinite(v)}
            router.observe(decision.event_id, Outcome(**known))
            arms.append(decision.arm_index)
            propensities.append(decision.propensity)
            outcomes.append(y)
            means.append(utility(block.means[row, decision.arm_index], arena.weights))
        contexts.append(block.contexts)
    router.close()
    return OwnLog(
        contexts=np.concatenate(contexts),
        arm=np.array(arms, dtype=np.intp),
        propensity=np.array(propensities),
        outcomes=np.array(outcomes),
        utility=float(np.mean(means)),
    )
