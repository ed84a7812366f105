"""Contextual bandits of other packages behind two methods: `choose(x) -> arm` and `learn(x, arm, reward)`.

Each is set up as its own documentation does for a scalar reward; the reward is the utility at the price of the run.
A package that is not installed leaves its rows out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Make = Callable[[int, int, int], Any]


class VowpalWabbit:
    """vowpal-wabbit-next, action-dependent features, interactions of context and arm."""

    def __init__(self, n_arms: int, dim: int, seed: int, *, options: str) -> None:
        import vowpal_wabbit_next as vw

        self.n_arms, self.rng = n_arms, np.random.default_rng(seed)
        self.workspace = vw.Workspace(f"--cb_explore_adf {options} -q SA --quiet".split())
        self.parser = vw.TextFormatParser(self.workspace)

    def _examples(self, x: Any, arm: int = -1, label: str = "") -> list[Any]:
        shared = "shared |S " + " ".join(f"{j}:{x[j]:.6g}" for j in np.flatnonzero(x))
        lines = [shared, *(f"{label if a == arm else ''}|A a{a}" for a in range(self.n_arms))]
        return [self.parser.parse_line(line) for line in lines]

    def choose(self, x: Any) -> int:
        """The arm for this context."""
        p = np.zeros(self.n_arms)
        for arm, probability in self.workspace.predict_one(self._examples(x)):
            p[arm] = probability
        arm = int(self.rng.choice(self.n_arms, p=p / p.sum()))
        self.p = p[arm]
        return arm

    def learn(self, x: Any, arm: int, reward: float) -> None:
        """Fold one reward in."""
        self.workspace.learn_one(self._examples(x, arm, f"0:{-reward:.6g}:{self.p:.6g} "))


class ParetoBandit:
    """ParetoBandit's router policy with its own defaults."""

    def __init__(self, n_arms: int, dim: int, seed: int) -> None:
        from pareto_bandit import DisjointLinUCBPolicy

        self.names = [str(a) for a in range(n_arms)]
        self.policy = DisjointLinUCBPolicy(self.names, dim=dim, seed=seed)

    def choose(self, x: Any) -> int:
        """The arm for this context."""
        return int(self.policy.select_arm(x)[0])

    def learn(self, x: Any, arm: int, reward: float) -> None:
        """Fold one reward in."""
        self.policy.update(self.names[arm], x, reward)


class BayesianBandits:
    """bayesianbandits' contextual agent: empirical-Bayes normal regressions, Thompson sampling."""

    def __init__(self, n_arms: int, dim: int, seed: int) -> None:
        from bayesianbandits import Arm, ContextualAgent, EmpiricalBayesNormalRegressor, ThompsonSampling

        arms = [Arm(a, learner=EmpiricalBayesNormalRegressor(random_state=seed + a)) for a in range(n_arms)]
        self.agent = ContextualAgent(arms, ThompsonSampling(), random_seed=seed)

    def choose(self, x: Any) -> int:
        """The arm for this context."""
        return int(self.agent.pull(x[None])[0])

    def learn(self, x: Any, arm: int, reward: float) -> None:
        """Fold one reward in."""
        self.agent.select_for_update(arm).update(x[None], np.array([reward]))


class MABWiser:
    """MABWiser's LinUCB or LinTS."""

    def __init__(self, n_arms: int, dim: int, seed: int, *, policy: str, alpha: float) -> None:
        from mabwiser.mab import MAB, LearningPolicy

        self.mab = MAB(list(range(n_arms)), getattr(LearningPolicy, policy)(alpha=alpha), seed=seed)
        self.mab.fit(list(range(n_arms)), [0.5] * n_arms, np.zeros((n_arms, dim)))

    def choose(self, x: Any) -> int:
        """The arm for this context."""
        return int(self.mab.predict(x[None]))

    def learn(self, x: Any, arm: int, reward: float) -> None:
        """Fold one reward in."""
        self.mab.partial_fit([arm], [reward], x[None])


class River:
    """river's LinUCBDisjoint."""

    def __init__(self, n_arms: int, dim: int, seed: int) -> None:
        from river.bandit import LinUCBDisjoint

        self.arms, self.policy = list(range(n_arms)), LinUCBDisjoint(seed=seed)

    def choose(self, x: Any) -> int:
        """The arm for this context."""
        return int(self.policy.pull(self.arms, dict(enumerate(x.tolist()))))

    def learn(self, x: Any, arm: int, reward: float) -> None:
        """Fold one reward in."""
        self.policy.update(arm, dict(enumerate(x.tolist())), reward)


class Gittins:
    """gittins: hashed context x action features, diagonal model, its default epsilon."""

    def __init__(self, n_arms: int, dim: int, seed: int) -> None:
        import gittins

        self.engine, self.state, self.salt, self.time = gittins, gittins.create(16, 1_000_000_000), str(seed), 0
        self.candidates = [(str(a), {f"arm{a}": 1.0}) for a in range(n_arms)]

    def choose(self, x: Any) -> int:
        """The arm for this context."""
        self.time += 1
        context = {str(j): float(x[j]) for j in np.flatnonzero(x)}
        self.record = self.engine.decide(
            self.state, context, self.candidates, float(self.time), f"{self.salt}:{self.time}"
        )
        return int(self.record.chosen)

    def learn(self, x: Any, arm: int, reward: float) -> None:
        """Fold one reward in."""
        self.engine.learn(self.state, self.record.decision_id, reward, float(self.time))


class ContextualBandits:
    """contextualbandits' LinUCB, updated after every request."""

    def __init__(self, n_arms: int, dim: int, seed: int, *, alpha: float) -> None:
        from contextualbandits.online import LinUCB

        self.policy = LinUCB(n_arms, alpha=alpha, fit_intercept=False, use_float=False, random_state=seed + 1)
        self.policy.partial_fit(np.zeros((n_arms, dim)), np.arange(n_arms), np.full(n_arms, 0.5))

    def choose(self, x: Any) -> int:
        """The arm for this context."""
        return int(self.policy.predict(x[None])[0])

    def learn(self, x: Any, arm: int, reward: float) -> None:
        """Fold one reward in."""
        self.policy.partial_fit(x[None], np.array([arm]), np.array([reward]))


def _vw(options: str) -> Make:
    return lambda n_arms, dim, seed: VowpalWabbit(n_arms, dim, seed, options=options)


PEERS: dict[str, Make] = {
    "VW epsilon 0.05": _vw("--epsilon 0.05"),
    "VW SquareCB": _vw("--squarecb"),
    "VW RegCB": _vw("--regcb --cb_min_cost -1 --cb_max_cost 1"),
    "ParetoBandit": ParetoBandit,
    "bayesianbandits EB-TS": BayesianBandits,
    "MABWiser LinUCB 0.1": lambda k, d, s: MABWiser(k, d, s, policy="LinUCB", alpha=0.1),
    "MABWiser LinTS 0.1": lambda k, d, s: MABWiser(k, d, s, policy="LinTS", alpha=0.1),
    "MABWiser LinTS 1": lambda k, d, s: MABWiser(k, d, s, policy="LinTS", alpha=1.0),
    "river LinUCB": River,
    "gittins": Gittins,
    "contextualbandits LinUCB 0.1": lambda k, d, s: ContextualBandits(k, d, s, alpha=0.1),
    "contextualbandits LinUCB 1": lambda k, d, s: ContextualBandits(k, d, s, alpha=1.0),
}

PACKAGES = tuple(
    ["vowpal-wabbit-next", "paretobandit", "bayesianbandits", "mabwiser", "river", "gittins", "contextualbandits"]
)


def installed() -> dict[str, Make]:
    """The peers that can be made here."""
    found = {}
    for name, make in PEERS.items():
        try:
            make(2, 1, 0)
        except ImportError:
            continue
        found[name] = make
    return found
