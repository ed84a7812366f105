"""Simulations of a whole router: budgets, rollout, late and missing rewards, operations, by the text that is served."""

from __future__ import annotations

import heapq
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from bandit_router.arrays import F64, Index
from bandit_router.errors import BudgetExhausted, InvalidInput
from bandit_router.policies.base import utility
from bandit_router.records.outcomes import Outcome
from bandit_router.routing.config import PolicySection, RouterConfig
from bandit_router.routing.router import Router
from bandit_router.settling.memory import Memory
from bandit_router.simulators.configs import FeedbackConfig, OperationConfig, PolicyConfig
from bandit_router.simulators.environment import BLOCK, Block, Environment, draws, generator
from bandit_router.simulators.run import RoutedTrajectory, checkpoints
from bandit_router.simulators.table import TableEnvironment


class OfArms:
    """An environment of some arms only, in the order that a router names them; the streams are the same.

    Args:
        environment: has these arms. arms: their ids.

    Raises:
        InvalidInput: the environment has no such arm.
    """

    def __init__(self, environment: Environment, arms: Sequence[str]) -> None:
        ids = [arm.id for arm in environment.arms]
        unknown = [arm for arm in arms if arm not in ids]
        if unknown:
            raise InvalidInput(f"the environment has no arm {unknown[0]!r}; it has {', '.join(ids)}")
        self._environment, self._columns = environment, [ids.index(arm) for arm in arms]
        self.arms = tuple(environment.arms[column] for column in self._columns)
        self.name, self.channels, self.dim = environment.name, environment.channels, environment.dim
        self.horizon, self.scales = environment.horizon, environment.scales

    def blocks(self, seed: int, horizon: int) -> Iterator[Block]:
        """See `Environment`."""
        for block in self._environment.blocks(seed, horizon):
            playable = None if block.playable is None else block.playable[:, self._columns]
            if playable is not None and not playable.any(axis=1).all():
                raise InvalidInput("a query has no outcome of any arm that the router names; drop it from the table")
            yield Block(block.contexts, block.outcomes[:, self._columns], block.means[:, self._columns], playable)

    def describe(self) -> dict[str, Any]:
        """See `Environment`."""
        return self._environment.describe()


@dataclass(frozen=True)
class Served:
    """How a scenario is served.

    Attributes:
        config: the router's. feedback: how outcomes come back. operations: what an operator does.
    """

    config: RouterConfig
    feedback: FeedbackConfig
    operations: tuple[OperationConfig, ...]

    def environment(self, environment: Environment, encoder: Any) -> Environment:
        """The environment with the router's arms, and with contexts as it encodes them.

        Raises:
            InvalidInput: the two do not fit.
        """
        if not isinstance(encoder, int):
            if not isinstance(environment, TableEnvironment):
                raise InvalidInput("encoders need requests, and only outcome tables have them; give context a length")
            environment.encode_by(encoder)
        elif encoder != environment.dim:
            raise InvalidInput(f"the router's context has {encoder} numbers, the environment's {environment.dim}")
        unknown = [name for name in environment.channels if name not in self.config.objective.channels]
        if unknown:
            raise InvalidInput(f"the environment meters {unknown[0]}, which the router's objective does not learn")
        return OfArms(environment, [arm.id for arm in self.config.arms])

    def router(self, environment: Environment, policy: PolicyConfig, seed: int, clock: Clock) -> Router:
        """A fresh router with this policy, in memory."""
        section = PolicySection(name=policy.name, settings=policy.settings)
        if (section.name, section.settings) == (self.config.policy.name, self.config.policy.settings):
            section = self.config.policy
        config = msgspec.structs.replace(self.config, policy=section)
        key, store = f"{environment.name}:{seed}".encode()[:64], Memory(early_s=self.config.store.early_s)
        return Router(**config.arguments(context=environment.dim, key=key, store=store, clock=clock))


class Clock:
    """The simulated time, in seconds."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Now."""
        return self.now


class Drive:
    """One router on one stream, request by request.

    Args:
        served: how. environment: of `Served.environment`. policy: which one learns. seed: chooses the stream.
    """

    def __init__(self, served: Served, environment: Environment, policy: PolicyConfig, *, seed: int) -> None:
        self.environment, self.seed, self.clock = environment, seed, Clock()
        self.feedback = served.feedback
        self.router = served.router(environment, policy, seed, self.clock)
        self._uniform = 0.0
        self._ids = np.array([arm.id for arm in environment.arms], dtype=object)
        self.router.chooser.uniform = lambda _: self._uniform
        residency = served.config.residency
        self.cache = None if residency is None else residency.build(self.router)
        self.counted: Counter[str] = Counter()
        self._operations = sorted(served.operations, key=lambda operation: operation.step, reverse=True)
        self._luck = generator(environment.name, "feedback", seed)
        self._late: list[tuple[float, int, float]] = []

    def run(self, weights: F64, horizon: int) -> RoutedTrajectory:
        """All steps; `weights` are the signed channel prices, shape (channels,)."""
        utilities, plays = np.zeros(horizon), np.zeros(len(self.environment.arms))
        sums, counts = np.zeros(len(weights)), np.zeros(len(weights))
        seconds, step = 0.0, 0
        for index, block in enumerate(self.environment.blocks(self.seed, horizon)):
            started = time.perf_counter()
            chosen, penalties = self._play(step, block, draws(self.environment.name, self.seed, index, BLOCK))
            seconds += time.perf_counter() - started
            rows = np.flatnonzero(chosen >= 0)
            served = chosen[rows]
            utilities[step + rows] = utility(block.means[rows, served], weights) - penalties[rows]
            outcomes = block.outcomes[rows, served]
            sums += np.nansum(outcomes, axis=0)
            counts += np.isfinite(outcomes).sum(axis=0)
            plays += np.bincount(served, minlength=len(plays))
            step += len(chosen)
        self._deliver(float("inf"))
        self.router.close()
        if self.cache is not None:
            self.counted.update(misses=self.cache.counters.misses, loads=self.cache.counters.loads)
        return RoutedTrajectory(
            curve=utilities.cumsum()[checkpoints(horizon) - 1],
            outcome_sums=sums,
            outcome_counts=counts,
            plays=plays,
            seconds=seconds,
            counted=dict[str, float](self.router.counters | self.counted),
            limits=[] if self.router.budgets is None else self.router.budgets.report(),
        )

    def _play(self, first: int, block: Block, uniforms: F64) -> tuple[Index, F64]:
        """The arms that served, -1 where nobody could be paid for, and what paging them in cost; shape (steps,)."""
        chosen, penalties = np.empty(len(block.contexts), dtype=np.intp), np.zeros(len(block.contexts))
        for row, context in enumerate(block.contexts):
            self._uniform = float(uniforms[row])
            eligible = None if block.playable is None else self._ids[block.playable[row]]
            chosen[row], penalties[row] = self._serve(first + row, context, block.outcomes[row], eligible)
        return chosen, penalties

    def _serve(self, step: int, context: F64, outcomes: F64, eligible: Sequence[str] | None) -> tuple[int, float]:
        """The arm that served, -1 if nobody could be paid for, and what paging it in cost."""
        now = step / self.feedback.requests_per_s
        self._deliver(now)
        self.clock.now = now
        while self._operations and self._operations[-1].step <= step:
            self._operate(self._operations.pop())
        known, resident = (None, None) if self.cache is None else (self.cache.penalty(), self.cache.resident)
        try:
            decision = self.router.decide(
                context, event_id=str(step), eligible=eligible, penalty=known, resident=resident
            )
        except BudgetExhausted:
            self.counted["refused_budget"] += 1
            return -1, 0.0
        self.counted[f"mode_{decision.mode}"] += 1
        if self.cache is not None:
            self.cache.served(decision)
        self._report(step, outcomes[decision.arm_index])
        return decision.arm_index, 0.0 if known is None else known[decision.arm]

    def _report(self, step: int, values: F64) -> None:
        metered = {n: float(v) for n, v in zip(self.environment.channels, values, strict=True) if np.isfinite(v)}
        luck, feedback = self._luck.random(), self.feedback
        if luck < feedback.late_share + feedback.missing_share:
            quality = metered.pop("quality")
            if luck < feedback.late_share:
                due = self.clock.now + self._luck.exponential(feedback.delay_s)
                heapq.heappush(self._late, (due, step, quality))
            else:
                self.counted["missing"] += 1
        if metered:
            self.router.observe(str(step), Outcome(**metered))

    def _deliver(self, until_s: float) -> None:
        """Report the late qualities that are due."""
        while self._late and self._late[0][0] <= until_s:
            self.clock.now, step, quality = heapq.heappop(self._late)
            self.router.observe(str(step), Outcome(quality=quality))
            self.counted["late"] += 1

    def _operate(self, operation: OperationConfig) -> None:
        router = self.router
        if operation.pause is not None:
            router.pause(operation.pause)
        if operation.resume is not None:
            router.resume(operation.resume)
        if operation.prices:
            router.set_prices(operation.prices)
        if operation.rollout:
            router.set_rollout(**operation.rollout)
