"""The direct method and what adds weighted residuals to it."""

from __future__ import annotations

import numpy as np

from bandit_router.arrays import F64
from bandit_router.replay.estimators.sample import Sample, ratio_scores
from bandit_router.replay.estimators.weighting import clip_level, shrunk_weight


def dm(sample: Sample) -> F64:
    """The model's own value of the target policy. No propensities; as biased as the model.

    Its standard error leaves out that the model was estimated, so its intervals are too narrow.
    """
    return sample.direct


def dr(sample: Sample) -> F64:
    """direct + w (r - q): unbiased when either the propensities or the model are right.

    Source: Dudik, Langford & Li 2011 (arXiv 1103.4601), eq. 4.

    Example:
        >>> s = Sample(
        ...     arm=np.array([0, 1]),
        ...     propensity=np.array([0.5, 0.5]),
        ...     reward=np.array([1.0, 0.0]),
        ...     target=np.array([[1.0, 0.0], [1.0, 0.0]]),
        ...     predictions=np.array([[0.5, 0.5], [0.5, 0.5]]),
        ... )
        >>> dr(s).tolist()
        [1.5, 0.5]
    """
    return np.asarray(sample.direct + sample.weight * sample.residual)


def sndr(sample: Sample) -> F64:
    """direct + sum(w (r - q)) / sum(w): the residual self-normalised."""
    return np.asarray(sample.direct + ratio_scores(sample.weight * sample.residual, sample.weight))


def switch_dr(sample: Sample, level: float | None = None) -> F64:
    """DR where w <= level, the model alone above (Wang, Agarwal & Dudik 2017); level defaults to sqrt(n)."""
    kept = sample.weight <= (clip_level(sample) if level is None else level)
    return np.asarray(sample.direct + kept * sample.weight * sample.residual)


def dr_shrunk(sample: Sample, level: float | None = None) -> F64:
    """DRos: DR with the weight w level / (w^2 + level) (Su et al. 2020, optimistic shrinkage); level defaults to n.

    At the default a weight of sqrt(n) is halved, which is where the clipped estimators cut.
    """
    shrinkage = clip_level(sample) ** 2 if level is None else level
    w = sample.weight
    return np.asarray(sample.direct + shrinkage * w / (w * w + shrinkage) * sample.residual)


def sub_gaussian_dr(sample: Sample, share: float | None = None) -> F64:
    """DR with the sub-Gaussian weights of Metelli et al. 2021."""
    return np.asarray(sample.direct + shrunk_weight(sample, share) * sample.residual)
