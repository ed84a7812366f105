"""Routers for tests that vary one thing at a time: every setting by one flat name."""

from __future__ import annotations

from typing import Any

import msgspec

from bandit_router.routing.groups import Objective, PolicySpec
from bandit_router.routing.rollout import Rollout
from bandit_router.routing.router import Router


def make_router(**flat: Any) -> Router:
    """`Router(...)` with the fields of `PolicySpec`, `Objective` and `Rollout` beside its own arguments."""
    return Router(**grouped(**flat))


def grouped(**flat: Any) -> dict[str, Any]:
    """The arguments of `Router` that these flat ones are."""
    policy = {name: flat.pop(name) for name in ("settings", "monitor") if name in flat}
    objective = {name: flat.pop(name) for name in ("prices", "channels", "rewards") if name in flat}
    rollout = {name: flat.pop(name) for name in ("baseline", "guard") if name in flat}
    if policy:
        named = {"name": flat.pop("policy")} if "policy" in flat else {}
        flat["policy"] = PolicySpec(**named, **policy)
    if objective:
        flat["objective"] = Objective(**objective)
    if rollout:
        flat["rollout"] = msgspec.structs.replace(flat.get("rollout", Rollout()), **rollout)
    return flat
