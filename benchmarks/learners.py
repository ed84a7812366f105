"""One face for our linear learners and the peers': prepare a context (not timed), select an arm, learn its reward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from bandit_router.policies import LinUCB
from bandit_router.policies.base import F64
from bandit_router.policies.distributions import draw
from bandit_router.policies.linear import RidgeStatistics

ALPHA = 0.3
_QUALITY = np.ones(1)


class Learner(Protocol):
    """What the benchmarks drive."""

    def prepare(self, x: F64) -> Any:
        """The context in the learner's own form; outside the timing."""

    def select(self, x: Any) -> int:
        """The arm to play."""

    def update(self, x: Any, arm: int, reward: float) -> None:
        """Learn the reward of that arm."""


class Statistics:
    """The ridge statistics alone: the index of every arm and its argmax."""

    def __init__(self, form: type[RidgeStatistics], n_arms: int, dim: int, precision: int = 64) -> None:
        self.statistics, self.y = form(n_arms, dim, 1, ridge=1.0, precision=precision), np.empty(1)

    def prepare(self, x: F64) -> F64:
        return x

    def select(self, x: F64) -> int:
        return self.statistics.select(x, _QUALITY, ALPHA)

    def update(self, x: F64, arm: int, reward: float) -> None:
        self.y[0] = reward
        self.statistics.learn(arm, x, self.y, 1.0)


class Policy:
    """A whole policy: checked arguments, the exact distribution, the draw."""

    def __init__(self, n_arms: int, dim: int) -> None:
        self.policy = LinUCB(n_arms=n_arms, dim=dim, alpha=ALPHA, floor=0.0)

    def prepare(self, x: F64) -> F64:
        return x

    def select(self, x: F64) -> int:
        return draw(self.policy.probabilities(x), 0.5)

    def update(self, x: F64, arm: int, reward: float) -> None:
        self.policy.learn(x, arm, np.array([reward]))


class ParetoBandit:
    """paretobandit's disjoint LinUCB policy."""

    def __init__(self, n_arms: int, dim: int) -> None:
        from pareto_bandit import DisjointLinUCBPolicy

        self.names = [f"arm{a}" for a in range(n_arms)]
        self.policy = DisjointLinUCBPolicy(self.names, dim=dim, alpha=ALPHA, seed=0)

    def prepare(self, x: F64) -> F64:
        return x

    def select(self, x: F64) -> int:
        return int(self.policy.select_arm(x)[0][3:])

    def update(self, x: F64, arm: int, reward: float) -> None:
        self.policy.update(self.names[arm], x, reward)


class Gittins:
    """gittins with its own diagonal model and epsilon 0.05."""

    def __init__(self, n_arms: int, dim: int) -> None:
        import gittins

        self.engine, self.state, self.step = gittins, gittins.create(bits=16, horizon=1e9), 0
        self.candidates: list[tuple[str, dict[str, float]]] = [(f"arm{a}", {}) for a in range(n_arms)]

    def prepare(self, x: F64) -> dict[str, float]:
        return {f"f{i}": value for i, value in enumerate(x.tolist())}

    def select(self, x: dict[str, float]) -> int:
        self.step += 1
        self.record = self.engine.decide(self.state, x, self.candidates, float(self.step), "s")
        return int(self.record.chosen)

    def update(self, x: dict[str, float], arm: int, reward: float) -> None:
        self.engine.learn(self.state, self.record.decision_id, reward, float(self.step))


class VowpalWabbit:
    """vowpal-wabbit-next, cb_explore_adf with epsilon 0.05 and arm-by-feature interactions; parsing is not timed."""

    def __init__(self, n_arms: int, dim: int) -> None:
        import vowpal_wabbit_next as vw

        options = ["--cb_explore_adf", "--epsilon", "0.05", "-q", "SA", "--quiet", "--random_seed", "1"]
        self.workspace, self.n_arms = vw.Workspace(options), n_arms
        self.parser, self.label = vw.TextFormatParser(self.workspace), vw.CBLabel
        self.rng = np.random.default_rng(0)

    def prepare(self, x: F64) -> list[Any]:
        shared = "shared |S " + " ".join(f"f{i}:{value:.6f}" for i, value in enumerate(x.tolist()))
        return [self.parser.parse_line(line) for line in (shared, *(f"|A a{a}" for a in range(self.n_arms)))]

    def select(self, x: list[Any]) -> int:
        scores = self.workspace.predict_one(x)
        self.chosen = scores[int(self.rng.random() > scores[0][1]) * int(self.rng.integers(1, len(scores)))]
        return int(self.chosen[0])

    def update(self, x: list[Any], arm: int, reward: float) -> None:
        x[arm + 1].set_label(self.label(label=(-reward, self.chosen[1])))
        self.workspace.learn_one(x)


PEERS: dict[str, Callable[[int, int], Learner]] = {
    "paretobandit": ParetoBandit,
    "vowpal-wabbit-next": VowpalWabbit,
    "gittins": Gittins,
}
