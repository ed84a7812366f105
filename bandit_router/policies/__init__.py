"""Policies by name. `POLICIES` is the registry: the command line, the laws and the benchmarks walk it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bandit_router import declared
from bandit_router.errors import InvalidInput
from bandit_router.policies.base import Estimate, Policy
from bandit_router.policies.baselines import Fixed, RoundRobin, UniformRandom
from bandit_router.policies.bootstrap import BootstrapLinear
from bandit_router.policies.default import EvidenceThompson
from bandit_router.policies.drift import DriftLinTS, DriftLinUCB
from bandit_router.policies.epsilon_greedy import EpsilonGreedy
from bandit_router.policies.exp3 import Exp3
from bandit_router.policies.hybrid import HierarchicalLinTS, HybridLinUCB
from bandit_router.policies.lin_epsilon import LinEpsilonGreedy
from bandit_router.policies.lin_ids import LinIDS
from bandit_router.policies.lints import LinTS
from bandit_router.policies.linucb import LinUCB
from bandit_router.policies.mixture import MixtureThompson
from bandit_router.policies.random_layer import RandomLayerTS
from bandit_router.policies.river import RiverEpsilonGreedy, RiverSoftmax, RiverSquareCB
from bandit_router.policies.sketched import SketchedLinUCB
from bandit_router.policies.softmax import Softmax
from bandit_router.policies.squarecb import SquareCB
from bandit_router.policies.thompson import BetaThompson, GaussianThompson
from bandit_router.policies.ucb1 import UCB1
from bandit_router.policies.vw_explorations import VWBag, VWCover, VWEpsilonGreedy, VWRegCB, VWSoftmax, VWSquareCB

POLICIES: dict[str, type[Policy]] = {
    policy.__name__: policy
    for policy in (
        EvidenceThompson,
        LinUCB,
        LinTS,
        LinEpsilonGreedy,
        SquareCB,
        Softmax,
        EpsilonGreedy,
        UCB1,
        GaussianThompson,
        BetaThompson,
        Exp3,
        Fixed,
        UniformRandom,
        RoundRobin,
        HybridLinUCB,
        HierarchicalLinTS,
        LinIDS,
        SketchedLinUCB,
        BootstrapLinear,
        RandomLayerTS,
        MixtureThompson,
        DriftLinUCB,
        DriftLinTS,
        VWEpsilonGreedy,
        VWSoftmax,
        VWSquareCB,
        VWBag,
        VWCover,
        VWRegCB,
        RiverEpsilonGreedy,
        RiverSoftmax,
        RiverSquareCB,
    )
}
DEFAULT_POLICY = "EvidenceThompson"


def policy_class(name: str) -> type[Policy]:
    """The policy of that name; raises InvalidInput with the names there are."""
    return declared.named("policy", name, POLICIES)


def read_settings(policy: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a named policy, texts read by their types; raises InvalidInput as `build` does, before it is built.

    Example:
        >>> read_settings("LinUCB", {"alpha": "0.1", "precision": 32})
        {'alpha': 0.1, 'precision': 32}
    """
    return declared.read(policy, policy_class(policy), settings)


def build(policy: str | Policy, settings: Mapping[str, Any] | None = None, **sizes: int) -> Policy:
    """A policy of these sizes by name and settings, or the one that is given, if it has them.

    The one door: the Router, scenarios, replays and the command line build here, so a typo has one sentence.

    Args:
        policy: name of a registered policy, or an instance, which has its settings already.
        settings: of a named policy; texts are read by the declared type. sizes: n_arms, dim and, optionally, channels.

    Raises:
        InvalidInput: an unknown policy or setting, settings beside an instance, or an instance of other sizes.

    Example:
        >>> build("LinUCB", {"alpha": 0.1}, n_arms=2, dim=3).settings()["alpha"]
        0.1
    """
    if isinstance(policy, str):
        return declared.build("policy", policy, settings or {}, POLICIES, **sizes)
    if settings:
        raise InvalidInput(f"settings {dict(settings)} go with a policy's name, got a {type(policy).__name__} as well")
    got = {name: getattr(policy, name) for name in sizes}
    if got != sizes:
        raise InvalidInput(f"the policy must have {sizes}, got {got}")
    return policy


__all__ = [
    "DEFAULT_POLICY",
    "POLICIES",
    "Estimate",
    "InvalidInput",
    "Policy",
    "build",
    "policy_class",
    "read_settings",
    *POLICIES,
]
