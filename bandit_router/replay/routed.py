"""A whole router as a target: its policy along the log, under its rollout."""

from __future__ import annotations

import numpy as np

from bandit_router.arrays import F64
from bandit_router.errors import InvalidInput
from bandit_router.records.arms import Arm, Catalogue
from bandit_router.replay.compare import Target, make_target
from bandit_router.replay.logs.logged import LoggedEvents
from bandit_router.replay.targets import Learning
from bandit_router.routing.config import RouterConfig
from bandit_router.routing.exploration import spread
from bandit_router.routing.rollout import Rollout


def routed_target(config: RouterConfig, log: LoggedEvents, *, learning: Learning = "accepted", seed: int = 0) -> Target:
    """What a router would have drawn from: its policy, at its prices, under its floors, caps, holdout and mode.

    Arms are matched by id; arms of the log that the router does not have get nothing.

    Args:
        config: the router's. log: has all its arms. learning, seed: see `make_target`.

    Raises:
        InvalidInput: the log lacks an arm of the router.
    """
    ids = [arm.id for arm in config.arms]
    missing = [arm for arm in ids if arm not in log.arms]
    if missing:
        raise InvalidInput(f"the log has no arm {missing[0]!r}, which the router has; it has {', '.join(log.arms)}")
    policy, utility = config.policy, config.objective.utility
    target = make_target(policy.name, log, utility=utility, settings=policy.settings, learning=learning, seed=seed)
    kept = target.kept if config.rollout == Rollout() and len(ids) == len(log.arms) else None
    return target._replace(name=f"router with {policy.name}", table=_bounded(target.table, config, log), kept=kept)


def left_out(config: RouterConfig) -> list[str]:
    """What of a router a log cannot follow, as sentences for the document."""
    parts = {"budgets": config.budgets, "guard": config.rollout.guard, "residency": config.residency}
    notes = [
        f"the router's {name} depends on what it would have served, and is left out"
        for name, part in parts.items()
        if part is not None
    ]
    spread_out = "the router's explore_share is spread over all of its arms, plausible or not"
    return [*notes, spread_out] if config.rollout.explore_share else notes


def _bounded(table: F64, config: RouterConfig, log: LoggedEvents) -> F64:
    """The distributions that the rollout lets through, shape (n, K)."""
    rollout, catalogue = config.rollout, Catalogue([Arm(id=arm) for arm in log.arms])
    ids = [arm.id for arm in config.arms]
    mine = np.isin(log.arms, ids)
    eligible = log.allowed() & mine
    baseline = None if rollout.baseline is None else catalogue.index(rollout.baseline)
    result = np.zeros_like(table)
    for row, allowed in enumerate(eligible):
        if not allowed.any():
            raise InvalidInput(f"row {row}: none of the router's arms is eligible there; leave such rows out")
        serving = baseline if baseline is not None and allowed[baseline] else int(np.flatnonzero(allowed)[0])
        mask = rollout.mask(catalogue, allowed)
        chosen = np.zeros(len(log.arms))
        if rollout.mode != "online" or mask is None or not mask.any():
            chosen[serving] = 1.0
        else:
            inside = np.where(mask, table[row], 0.0)
            p = inside / inside.sum() if inside.sum() > 0 else mask / mask.sum()
            p = spread(p, rollout.explore_share, mask, mask)
            chosen = rollout.bound(p, mask, catalogue) * (1.0 - rollout.holdout)
            chosen[serving] += rollout.holdout
        result[row] = chosen
    return result
