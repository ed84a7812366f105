"""Environments whose arms are adapters on one base model: linear utilities, or a real outcome table."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from typing import Any, Literal, Protocol

import numpy as np

from bandit_router.arrays import F64, Bool
from bandit_router.errors import InvalidInput
from bandit_router.paging.adapter_library import adapter_library
from bandit_router.paging.model import PagingModel
from bandit_router.policies.caching.base import Capacity
from bandit_router.records.arms import Arm
from bandit_router.simulators.environment import BLOCK, Block, Environment, generator
from bandit_router.simulators.table import TableEnvironment

Drift = Literal["none", "popularity", "utility"]
BASE = "base"


class AdapterEnvironment(Environment, Protocol):
    """An environment with a paging cost per arm; `size_bytes` 0 means always resident."""


class LinearAdapters:
    """A base model and N adapters whose quality is linear in a mixture of tasks.

        quality_i(x) = theta_i . x + noise,   x = (1 - smoothing) * e_task + smoothing * Dirichlet(1)

    Task popularity is Zipf. Each adapter has a skill, is better at one home task, and carries the size of a
    Qwen2.5-7B-shaped adapter. The base model, arm 0, is weaker and always resident.

    Args:
        n_adapters: N. dim: tasks, the length of the context.
        zipf: exponent of the task popularity. noise: standard deviation of the quality.
        smoothing: weight of the Dirichlet part of a context; 0 makes contexts one-hot.
        drift: what changes halfway: nothing, which tasks are popular, or which adapter is good at what.
        horizon: default number of requests. name: keys the random streams.

    This is the setting that notes on POLAR's experiment suggest (arXiv 2604.16583: d = 5 with five benchmarks, linear
    rewards, power-law popularity), with synthetic scores: a reconstruction.
    """

    def __init__(
        self,
        *,
        n_adapters: int = 15,
        dim: int = 5,
        zipf: float = 1.1,
        noise: float = 0.1,
        smoothing: float = 0.3,
        drift: Drift = "none",
        horizon: int = 10_000,
        name: str = "adapters/zipf",
    ) -> None:
        if drift not in ("none", "popularity", "utility"):
            raise InvalidInput(f"drift must be none, popularity or utility, got {drift!r}")
        self.name, self.dim, self.horizon = name, dim, horizon
        self.zipf, self.noise, self.smoothing, self.drift = zipf, noise, smoothing, drift
        self.arms = (Arm(id=BASE), *adapter_library(n_adapters=n_adapters))
        self.channels: tuple[str, ...] = ("quality",)
        self.scales: dict[str, float] = {}

    def theta(self, seed: int, phase: int) -> F64:
        """Scores per arm and task, shape (arms, dim), before (0) and after (1) the drift."""
        rng = generator(self.name, "scores", seed)
        n = len(self.arms)
        skill = rng.normal(0.0, 0.05, (n, 1))
        scores = 0.5 + skill + rng.normal(0.0, 0.08, (n, self.dim))
        home = rng.permutation(np.arange(n) % self.dim)
        scores[np.arange(n), home] += rng.uniform(0.05, 0.25, n)
        scores[0] = 0.45 + rng.normal(0.0, 0.03, self.dim)
        if phase and self.drift == "utility":
            scores[1:] = scores[1 + rng.permutation(n - 1)]
        return np.asarray(scores.clip(0.0, 1.0))

    def popularity(self, seed: int, phase: int) -> F64:
        """Probability of each task, shape (dim,)."""
        rng = generator(self.name, "popularity", seed)
        weights = np.arange(1, self.dim + 1) ** -self.zipf
        ranks = rng.permutation(self.dim)
        if phase and self.drift == "popularity":
            ranks = self.dim - 1 - ranks
        return np.asarray(weights[ranks] / weights.sum())

    def blocks(self, seed: int, horizon: int) -> Iterator[Block]:
        """See `Environment`."""
        phases = [(self.theta(seed, phase), self.popularity(seed, phase)) for phase in (0, 1)]
        for index, start in enumerate(range(0, horizon, BLOCK)):
            steps = np.arange(start, min(start + BLOCK, horizon))
            rng = generator(self.name, "stream", seed, index)
            pick, mixture = rng.random(BLOCK)[: len(steps)], rng.dirichlet(np.ones(self.dim), BLOCK)[: len(steps)]
            luck = rng.normal(0.0, self.noise, (BLOCK, len(self.arms)))[: len(steps)]
            late = steps >= horizon // 2
            tasks = np.where(late, *(_pick(phases[p][1], pick) for p in (1, 0)))
            contexts = (1 - self.smoothing) * np.eye(self.dim)[tasks] + self.smoothing * mixture
            means = np.where(late[:, None], contexts @ phases[1][0].T, contexts @ phases[0][0].T)
            yield Block(contexts, (means + luck)[:, :, None], means[:, :, None])

    def describe(self) -> dict[str, Any]:
        """See `Environment`."""
        return {
            "kind": "adapters",
            "adapters": len(self.arms) - 1,
            "dim": self.dim,
            "zipf": self.zipf,
            "noise": self.noise,
            "smoothing": self.smoothing,
            "drift": self.drift,
            "channels": list(self.channels),
            "label": "synthetic scores; reconstruction of the setting, not of POLAR's experiment",
        }


def _pick(probabilities: F64, uniform: F64) -> Any:
    return np.minimum(probabilities.cumsum().searchsorted(uniform, side="right"), len(probabilities) - 1)


class TableAdapters(TableEnvironment):
    """A real outcome table whose arms are taken to be adapters, with the sizes of an adapter library.

    Args:
        table, contexts, name: see `TableEnvironment`.
        base: id of the arm that is the always resident base model; default the arm of lowest mean quality.
    """

    def __init__(self, *args: Any, base: str | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        if self.table.holes:
            raise InvalidInput(f"adapters need a complete table; {self.table.first_hole()}")
        ids = [arm.id for arm in self.arms]
        worst = ids[int(self.table.outcomes[:, :, 0].mean(axis=0).argmin())]
        if (base or worst) not in ids:
            raise InvalidInput(f"base {base!r} is not an arm of the table; there are {', '.join(ids)}")
        library = iter(adapter_library(n_adapters=max(len(ids) - 1, 1)))
        sizes = [0 if arm == (base or worst) else next(library).size_bytes for arm in ids]
        self.arms = tuple(
            Arm(id=arm, kind="adapter" if size else "model", size_bytes=size)
            for arm, size in zip(ids, sizes, strict=True)
        )

    def describe(self) -> dict[str, Any]:
        """See `Environment`."""
        return super().describe() | {"kind": "adapter_table"}


class Paging:
    """The paging side of an experiment: what fits, and what each arm costs to page in.

        cost_i = weight * expected_ms_i / max_j expected_ms_j

    Args:
        arms: in order. model: load times. weight: the utility one is ready to give up to avoid the slowest load.
        slots, limit_bytes: capacity. pinned: ids that stay resident.
    """

    def __init__(
        self,
        *,
        arms: tuple[Arm, ...],
        model: PagingModel,
        weight: float,
        slots: int | None = None,
        limit_bytes: float | None = None,
        pinned: tuple[str, ...] = (),
    ) -> None:
        if not weight >= 0:
            raise InvalidInput(f"the paging weight must be at least 0, got {weight}")
        self.model, self.weight = model, weight
        sizes = np.array([float(arm.size_bytes) for arm in arms])
        stays: Bool = np.array([arm.id in pinned for arm in arms])
        self.capacity = Capacity(sizes, slots, limit_bytes, stays)
        expected = model.expected_ms(sizes)
        slowest = float(expected.max())
        self.costs: F64 = weight * expected / slowest if slowest > 0 else np.zeros(len(arms))

    def unlimited(self) -> Paging:
        """The same costs with room for everything."""
        other = copy(self)
        other.capacity = Capacity(self.capacity.sizes)
        return other

    def load_ms(self, luck: F64) -> F64:
        """Load times with the given luck (uniform in [0, 1), shape (steps,)) of all arms, shape (steps, arms)."""
        return self.model.sample_ms(self.capacity.sizes, luck[:, None])
