"""Replay by rejection: the rows that the target policy would have produced itself."""

from __future__ import annotations

import numpy as np

from bandit_router.arrays import F64, Bool
from bandit_router.replay.estimators.sample import Sample, ratio_scores


def accepted(sample: Sample) -> Bool:
    """Which rows rejection sampling keeps: row i with probability w_i / max(w), shape (n,)."""
    if sample.kept is not None:
        return sample.kept
    w = sample.weight
    return np.asarray(np.random.default_rng(sample.seed).random(len(w)) * w.max() < w)


def replay(sample: Sample) -> F64:
    """Mean reward of the accepted rows.

    With uniform logging and a deterministic target these are the matching rows of Li, Chu, Langford & Wang 2011
    (arXiv 1003.5956), Algorithm 3; the acceptance probability makes it right for any known propensities and for
    stochastic targets (Mandel et al. 2016). Wasteful beside IPS, but what is kept is a real history.
    """
    keep = accepted(sample)
    return ratio_scores(keep * sample.reward, keep.astype(np.float64))
