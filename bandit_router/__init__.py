"""Online bandit routing of requests over language models and LoRA adapters.

Example:
    >>> from bandit_router import Arm, Outcome, Router
    >>> router = Router(arms=[Arm(id="small"), Arm(id="large")], dim=1)
    >>> decision = router.decide([1.0], event_id="r-1")
    >>> router.observe("r-1", Outcome(quality=0.9)).arm == decision.arm
    True

Importing the package imports nothing else: a public name brings in its module when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bandit_router.adapter_cache import AdapterCache
    from bandit_router.arms import Arm, Catalogue, Status
    from bandit_router.cascade import Cascade
    from bandit_router.contexts import Request
    from bandit_router.events import Decision, Settlement
    from bandit_router.explain import Explanation
    from bandit_router.outcomes import Outcome, Utility
    from bandit_router.policies.base import InvalidInput, Policy
    from bandit_router.router import Router

__version__ = "0.1.0"
__all__ = [
    "AdapterCache",
    "Arm",
    "Cascade",
    "Catalogue",
    "Decision",
    "Explanation",
    "InvalidInput",
    "Outcome",
    "Policy",
    "Request",
    "Router",
    "Settlement",
    "Status",
    "Utility",
    "__version__",
]

_HOMES = {
    "adapter_cache": ("AdapterCache",),
    "arms": ("Arm", "Catalogue", "Status"),
    "cascade": ("Cascade",),
    "contexts": ("Request",),
    "events": ("Decision", "Settlement"),
    "explain": ("Explanation",),
    "outcomes": ("Outcome", "Utility"),
    "policies.base": ("InvalidInput", "Policy"),
    "router": ("Router",),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            value = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
