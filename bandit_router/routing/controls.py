"""The settings of a router that operators change while it serves, as a store keeps and shares them."""

from __future__ import annotations

from collections.abc import Mapping

from bandit_router.budgets.limits import Limit
from bandit_router.budgets.pacing import Budgets
from bandit_router.records.outcomes import Utility
from bandit_router.routing.chooser import Chooser
from bandit_router.routing.rollout import Rollout
from bandit_router.settling.learner import Learner
from bandit_router.settling.protocol import Control


def controls(learner: Learner, chooser: Chooser, budgets: Budgets | None) -> dict[str, Control]:
    """Prices, rollout, and with budgets their limits."""

    def set_prices(prices: Mapping[str, float]) -> None:
        learner.reprice(Utility(prices=dict(prices), scales=learner.utility.scales))

    made = {
        "prices": Control(dict[str, float], lambda: dict(learner.utility.prices), set_prices),
        "rollout": Control(Rollout, lambda: chooser.rollout, chooser.use),
    }
    if budgets is not None:
        made["limits"] = Control(tuple[Limit, ...], lambda: budgets.in_force().limits, budgets.replace_all)
    return made
