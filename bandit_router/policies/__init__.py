"""Policies by name. `POLICIES` is the registry: the command line, the laws and the benchmarks walk it.

A policy's module is imported when its name is first used: some bring SciPy, or an engine of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from bandit_router import declared
from bandit_router.errors import InvalidInput
from bandit_router.policies.base import Estimate, Policy

if TYPE_CHECKING:
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

_HOMES = {
    "EvidenceThompson": "default",
    "LinUCB": "linucb",
    "LinTS": "lints",
    "LinEpsilonGreedy": "lin_epsilon",
    "SquareCB": "squarecb",
    "Softmax": "softmax",
    "EpsilonGreedy": "epsilon_greedy",
    "UCB1": "ucb1",
    "GaussianThompson": "thompson",
    "BetaThompson": "thompson",
    "Exp3": "exp3",
    "Fixed": "baselines",
    "UniformRandom": "baselines",
    "RoundRobin": "baselines",
    "HybridLinUCB": "hybrid",
    "HierarchicalLinTS": "hybrid",
    "LinIDS": "lin_ids",
    "SketchedLinUCB": "sketched",
    "BootstrapLinear": "bootstrap",
    "RandomLayerTS": "random_layer",
    "MixtureThompson": "mixture",
    "DriftLinUCB": "drift",
    "DriftLinTS": "drift",
    "VWEpsilonGreedy": "vw_explorations",
    "VWSoftmax": "vw_explorations",
    "VWSquareCB": "vw_explorations",
    "VWBag": "vw_explorations",
    "VWCover": "vw_explorations",
    "VWRegCB": "vw_explorations",
    "RiverEpsilonGreedy": "river",
    "RiverSoftmax": "river",
    "RiverSquareCB": "river",
}


class _Registry(Mapping[str, type[Policy]]):
    """The policies, each loaded when it is asked for."""

    def __getitem__(self, name: str) -> type[Policy]:
        found: type[Policy] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        return found

    def __contains__(self, name: object) -> bool:
        return name in _HOMES

    def __iter__(self) -> Iterator[str]:
        return iter(_HOMES)

    def __len__(self) -> int:
        return len(_HOMES)


POLICIES: Mapping[str, type[Policy]] = _Registry()
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


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return POLICIES[name]


__all__ = [
    "DEFAULT_POLICY",
    "POLICIES",
    "UCB1",
    "BetaThompson",
    "BootstrapLinear",
    "DriftLinTS",
    "DriftLinUCB",
    "EpsilonGreedy",
    "Estimate",
    "EvidenceThompson",
    "Exp3",
    "Fixed",
    "GaussianThompson",
    "HierarchicalLinTS",
    "HybridLinUCB",
    "InvalidInput",
    "LinEpsilonGreedy",
    "LinIDS",
    "LinTS",
    "LinUCB",
    "MixtureThompson",
    "Policy",
    "RandomLayerTS",
    "RiverEpsilonGreedy",
    "RiverSoftmax",
    "RiverSquareCB",
    "RoundRobin",
    "SketchedLinUCB",
    "Softmax",
    "SquareCB",
    "UniformRandom",
    "VWBag",
    "VWCover",
    "VWEpsilonGreedy",
    "VWRegCB",
    "VWSoftmax",
    "VWSquareCB",
    "build",
    "policy_class",
    "read_settings",
]
