"""Online bandit routing of requests over language models and LoRA adapters.

Example:
    >>> from bandit_router import Arm, Outcome, Router
    >>> router = Router(arms=[Arm(id="small"), Arm(id="large")], context=1)
    >>> decision = router.decide([1.0], event_id="r-1")
    >>> router.observe("r-1", Outcome(quality=0.9)).arm == decision.arm
    True

Importing the package imports nothing else: a public name brings in its module when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bandit_router.arrays import F64, Bool, Index
    from bandit_router.budgets.limits import Floor, Rate, Tail, Window
    from bandit_router.budgets.pacing import Budgets
    from bandit_router.declared import COUNT, NOT_NEGATIVE, POSITIVE, SHARE, Check, setting
    from bandit_router.encoding.categories import ReadabilityBin, SemanticCluster
    from bandit_router.encoding.contexts import Bias, Concat, Encoder, OneHotTask, Precomputed, Request, Standardise
    from bandit_router.encoding.text import Embedding, TextComplexity, fit_pca
    from bandit_router.encoding.traits import Traits
    from bandit_router.energy.meters import GpuClock, NvmlMeter, RecordedMeter, WindowSplit, ZeusMeter
    from bandit_router.energy.table import (
        EnergyRow,
        EnergyTable,
        greenserv_models,
        greenserv_table,
        read_energy_csv,
        read_mlenergy,
    )
    from bandit_router.errors import (
        BanditRouterError,
        BudgetExhausted,
        InvalidInput,
        InvalidLog,
        InvalidProfile,
        NoArmAvailable,
        StoreUnavailable,
        Unanswerable,
    )
    from bandit_router.paging.adapter_cache import AdapterCache, CacheChange
    from bandit_router.paging.model import PagingModel, load_profile
    from bandit_router.policies import POLICIES
    from bandit_router.policies.base import Estimate, Policy
    from bandit_router.policies.caching.base import CacheController, Capacity, Served, Values
    from bandit_router.policies.caching.credit import ExchangeCredit
    from bandit_router.policies.caching.eviction import GDSF, LFU, LRU
    from bandit_router.policies.caching.hazard import ReuseHazard
    from bandit_router.policies.default import EvidenceThompson
    from bandit_router.policies.distributions import draw, greedy
    from bandit_router.policies.drift import DriftPolicy
    from bandit_router.policies.dueling import DuelingLinear
    from bandit_router.policies.lints import LinTS
    from bandit_router.policies.linucb import LinUCB
    from bandit_router.policies.means import MeanPolicy
    from bandit_router.policies.mixture import PolicyMixture
    from bandit_router.policies.monitor import DriftMonitor
    from bandit_router.policies.thompson import BetaThompson, GaussianThompson
    from bandit_router.records.arms import Arm, Catalogue, Status
    from bandit_router.records.decisions import Decision, Settlement
    from bandit_router.records.failures import Failure, FailureRule, FailureRules
    from bandit_router.records.outcomes import CHANNELS, Outcome, Utility
    from bandit_router.replay.evaluate import evaluate
    from bandit_router.replay.logs import Intake, LoggedEvents, read_logs, write_log
    from bandit_router.replay.logs.record import row_of
    from bandit_router.replay.targets import follow, one_arm, uniform
    from bandit_router.routing.cascade import GATE_ARMS, Cascade
    from bandit_router.routing.config import RouterConfig, load_config
    from bandit_router.routing.explain import Explanation
    from bandit_router.routing.groups import Objective, PolicySpec
    from bandit_router.routing.guard import ConservativeGuard
    from bandit_router.routing.health import Health
    from bandit_router.routing.rollout import Rollout
    from bandit_router.routing.router import Router
    from bandit_router.settling.memory import Memory
    from bandit_router.settling.rules import RewardRule
    from bandit_router.simulators.adapters import LinearAdapters
    from bandit_router.simulators.configs import PolicyConfig
    from bandit_router.simulators.environment import BLOCK, Block, Environment
    from bandit_router.simulators.experiment import run_scenario
    from bandit_router.simulators.scenario import Scenario, load_scenario, with_overrides
    from bandit_router.simulators.table import TableEnvironment, load_table
    from bandit_router.store import Sharing, Store
    from bandit_router.store.saved import SavedState, load_state, save_state
    from bandit_router.testing import check_controller, check_environment, check_policy

__version__ = "0.1.0"

# Every public name and its module, in groups by use; `test_package` holds the two lists above and below to this one.
_HOMES = {
    # serving
    "routing.router": ("Router",),
    "records.arms": ("Arm", "Catalogue", "Status"),
    "records.outcomes": ("CHANNELS", "Outcome", "Utility"),
    "records.decisions": ("Decision", "Settlement"),
    "records.failures": ("Failure", "FailureRule", "FailureRules"),
    "settling.rules": ("RewardRule",),
    "routing.groups": ("Objective", "PolicySpec"),
    "routing.config": ("RouterConfig", "load_config"),
    "routing.rollout": ("Rollout",),
    "routing.health": ("Health",),
    "settling.memory": ("Memory",),
    "routing.guard": ("ConservativeGuard",),
    "routing.explain": ("Explanation",),
    "routing.cascade": ("GATE_ARMS", "Cascade"),
    "policies.monitor": ("DriftMonitor",),
    "store": ("Sharing", "Store"),
    "store.saved": ("SavedState", "load_state", "save_state"),
    # budgets
    "budgets.pacing": ("Budgets",),
    "budgets.limits": ("Floor", "Rate", "Tail", "Window"),
    # adapters
    "paging.adapter_cache": ("AdapterCache", "CacheChange"),
    "paging.model": ("PagingModel", "load_profile"),
    "policies.caching.base": ("CacheController", "Capacity", "Served", "Values"),
    "policies.caching.credit": ("ExchangeCredit",),
    "policies.caching.hazard": ("ReuseHazard",),
    "policies.caching.eviction": ("GDSF", "LFU", "LRU"),
    # encoding
    "encoding.contexts": ("Bias", "Concat", "Encoder", "OneHotTask", "Precomputed", "Request", "Standardise"),
    "encoding.text": ("Embedding", "TextComplexity", "fit_pca"),
    "encoding.traits": ("Traits",),
    "encoding.categories": ("ReadabilityBin", "SemanticCluster"),
    # policies
    "declared": ("COUNT", "NOT_NEGATIVE", "POSITIVE", "SHARE", "Check", "setting"),
    "policies": ("POLICIES",),
    "policies.default": ("EvidenceThompson",),
    "policies.thompson": ("BetaThompson", "GaussianThompson"),
    "policies.lints": ("LinTS",),
    "policies.linucb": ("LinUCB",),
    "policies.base": ("Estimate", "Policy"),
    "policies.mixture": ("PolicyMixture",),
    "policies.means": ("MeanPolicy",),
    "policies.drift": ("DriftPolicy",),
    "policies.dueling": ("DuelingLinear",),
    "policies.distributions": ("draw", "greedy"),
    # energy
    "energy.meters": ("GpuClock", "NvmlMeter", "RecordedMeter", "WindowSplit", "ZeusMeter"),
    "energy.table": (
        "EnergyRow",
        "EnergyTable",
        "greenserv_models",
        "greenserv_table",
        "read_energy_csv",
        "read_mlenergy",
    ),
    # simulating
    "simulators.scenario": ("Scenario", "load_scenario", "with_overrides"),
    "simulators.configs": ("PolicyConfig",),
    "simulators.experiment": ("run_scenario",),
    "simulators.environment": ("BLOCK", "Block", "Environment"),
    "simulators.adapters": ("LinearAdapters",),
    "simulators.table": ("TableEnvironment", "load_table"),
    # replaying
    "replay.logs": ("Intake", "LoggedEvents", "read_logs", "write_log"),
    "replay.logs.record": ("row_of",),
    "replay.evaluate": ("evaluate",),
    "replay.targets": ("follow", "one_arm", "uniform"),
    # testing your own parts
    "testing": ("check_controller", "check_environment", "check_policy"),
    # arrays
    "arrays": ("F64", "Bool", "Index"),
    # errors
    "errors": (
        "BanditRouterError",
        "BudgetExhausted",
        "InvalidInput",
        "InvalidLog",
        "InvalidProfile",
        "NoArmAvailable",
        "StoreUnavailable",
        "Unanswerable",
    ),
}
_MODULES = {name: home for home, names in _HOMES.items() for name in names}
__all__ = [
    "BLOCK",
    "CHANNELS",
    "COUNT",
    "F64",
    "GATE_ARMS",
    "GDSF",
    "LFU",
    "LRU",
    "NOT_NEGATIVE",
    "POLICIES",
    "POSITIVE",
    "SHARE",
    "AdapterCache",
    "Arm",
    "BanditRouterError",
    "BetaThompson",
    "Bias",
    "Block",
    "Bool",
    "BudgetExhausted",
    "Budgets",
    "CacheChange",
    "CacheController",
    "Capacity",
    "Cascade",
    "Catalogue",
    "Check",
    "Concat",
    "ConservativeGuard",
    "Decision",
    "DriftMonitor",
    "DriftPolicy",
    "DuelingLinear",
    "Embedding",
    "Encoder",
    "EnergyRow",
    "EnergyTable",
    "Environment",
    "Estimate",
    "EvidenceThompson",
    "ExchangeCredit",
    "Explanation",
    "Failure",
    "FailureRule",
    "FailureRules",
    "Floor",
    "GaussianThompson",
    "GpuClock",
    "Health",
    "Index",
    "Intake",
    "InvalidInput",
    "InvalidLog",
    "InvalidProfile",
    "LinTS",
    "LinUCB",
    "LinearAdapters",
    "LoggedEvents",
    "MeanPolicy",
    "Memory",
    "NoArmAvailable",
    "NvmlMeter",
    "Objective",
    "OneHotTask",
    "Outcome",
    "PagingModel",
    "Policy",
    "PolicyConfig",
    "PolicyMixture",
    "PolicySpec",
    "Precomputed",
    "Rate",
    "ReadabilityBin",
    "RecordedMeter",
    "Request",
    "ReuseHazard",
    "RewardRule",
    "Rollout",
    "Router",
    "RouterConfig",
    "SavedState",
    "Scenario",
    "SemanticCluster",
    "Served",
    "Settlement",
    "Sharing",
    "Standardise",
    "Status",
    "Store",
    "StoreUnavailable",
    "TableEnvironment",
    "Tail",
    "TextComplexity",
    "Traits",
    "Unanswerable",
    "Utility",
    "Values",
    "Window",
    "WindowSplit",
    "ZeusMeter",
    "__version__",
    "check_controller",
    "check_environment",
    "check_policy",
    "draw",
    "evaluate",
    "fit_pca",
    "follow",
    "greedy",
    "greenserv_models",
    "greenserv_table",
    "load_config",
    "load_profile",
    "load_scenario",
    "load_state",
    "load_table",
    "one_arm",
    "read_energy_csv",
    "read_logs",
    "read_mlenergy",
    "row_of",
    "run_scenario",
    "save_state",
    "setting",
    "uniform",
    "with_overrides",
    "write_log",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
