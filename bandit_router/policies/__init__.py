"""Policies by name. `POLICIES` is the registry: the command line, the laws and the benchmarks walk it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
    try:
        return POLICIES[name]
    except KeyError:
        raise InvalidInput(f"unknown policy {name!r}; there are {', '.join(POLICIES)}") from None


def built(policy: str | Policy, settings: Mapping[str, Any] | None, **sizes: int) -> Policy:
    """A policy of these sizes by name and settings, or the one that is given, if it has them."""
    if isinstance(policy, str):
        return policy_class(policy)(**sizes, **(settings or {}))
    got = {name: getattr(policy, name) for name in sizes}
    if got != sizes:
        raise InvalidInput(f"the policy must have {sizes}, got {got}")
    return policy


__all__ = ["DEFAULT_POLICY", "POLICIES", "Estimate", "InvalidInput", "Policy", "built", "policy_class", *POLICIES]
