"""The laws of this package, one call each for your own parts: `check_policy`, `check_controller`, `check_environment`.

Each law is a function that raises AssertionError with what was expected and what came; a check names the law that is
broken. The shipped policies, cache controllers and presets are checked by the same calls.
"""

from __future__ import annotations

from bandit_router.testing.controllers import CONTROLLER_LAWS, check_controller
from bandit_router.testing.environments import ENVIRONMENT_LAWS, check_environment
from bandit_router.testing.policies import POLICY_LAWS, check_policy

__all__ = [
    "CONTROLLER_LAWS",
    "ENVIRONMENT_LAWS",
    "POLICY_LAWS",
    "check_controller",
    "check_environment",
    "check_policy",
]
