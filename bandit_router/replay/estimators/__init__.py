"""Off-policy evaluation: what another policy would have earned on a log. `ESTIMATORS` is the registry."""

from __future__ import annotations

from bandit_router.errors import Unanswerable
from bandit_router.replay.estimators.doubly_robust import dm, dr, dr_shrunk, sndr, sub_gaussian_dr, switch_dr
from bandit_router.replay.estimators.marginal import mips
from bandit_router.replay.estimators.matching import replay
from bandit_router.replay.estimators.sample import Estimator, Sample
from bandit_router.replay.estimators.weighting import balanced_ips, clipped_ips, ips, snips, sub_gaussian_ips

ESTIMATORS: dict[str, Estimator] = {
    "replay": replay,
    "ips": ips,
    "clipped-ips": clipped_ips,
    "snips": snips,
    "sub-gaussian-ips": sub_gaussian_ips,
    "balanced-ips": balanced_ips,
    "dm": dm,
    "dr": dr,
    "sndr": sndr,
    "switch-dr": switch_dr,
    "dr-os": dr_shrunk,
    "sub-gaussian-dr": sub_gaussian_dr,
    "mips": mips,
}
GROUPED = frozenset({"mips"})  # need the group of every arm
MODELLED = frozenset({"dm", "dr", "sndr", "switch-dr", "dr-os", "sub-gaussian-dr"})

__all__ = ["ESTIMATORS", "GROUPED", "MODELLED", "Estimator", "Sample", "Unanswerable"]
