"""Marginalised weights: for many arms that fall into groups which explain the reward."""

from __future__ import annotations

import numpy as np

from bandit_router.arrays import F64
from bandit_router.errors import InvalidInput, Unanswerable
from bandit_router.replay.estimators.sample import Sample


def mips(sample: Sample) -> F64:
    """w(g) r with w(g) = target mass of the served arm's group / its logged mass (Saito & Joachims 2022, eq. 9).

    Unbiased if, given context and group, the arm has no effect on the reward; the variance is that of the groups.
    Groups that are the single arms give IPS.

    Args:
        sample: must carry the whole logged distribution and the groups.

    Raises:
        InvalidInput: there are no groups.
        Unanswerable: the log carries only the served arm's propensity.
    """
    group = sample.groups
    if group is None:
        raise InvalidInput("mips needs the group of every arm, for instance its base model")
    if sample.logging is None:
        raise Unanswerable("marginalised weights need the whole logged distribution, not only the propensity")
    same = group[sample.arm][:, None] == group[None, :]
    return np.asarray((sample.target * same).sum(axis=1) / (sample.logging * same).sum(axis=1) * sample.reward)
