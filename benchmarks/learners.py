"""Contextual bandits of this and of other packages behind one face, so that benchmarks can drive them alike.

Each peer is set up as its own documentation does for a scalar reward. `prepare` turns a context into the package's own
form (a dictionary, parsed text); benchmarks of speed leave it out of the timing. A package that is not installed
leaves its rows out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bandit_router.policies import LinUCB
from bandit_router.policies.compiled import CompiledRidge
from bandit_router.policies.distributions import draw
from bandit_router.policies.linear import RidgeStatistics

ALPHA = 0.3
Make = Callable[[int, int, int], "Learner"]


class Learner:
    """Prepare a context, select an arm, learn its reward; `choose` and `learn` prepare by themselves."""

    def prepare(self, x: Any) -> Any:
        """The context in the package's own form."""
        return x

    def select(self, x: Any) -> int:
        """The arm to play in a prepared context."""
        raise NotImplementedError

    def update(self, x: Any, arm: int, reward: float) -> None:
        """Learn the reward of that arm in a prepared context."""
        raise NotImplementedError

    def choose(self, x: Any) -> int:
        """The arm for this context."""
        return self.select(self.prepare(x))

    def learn(self, x: Any, arm: int, reward: float) -> None:
        """Fold one reward in."""
        self.update(self.prepare(x), arm, reward)


class Statistics(Learner):
    """Our ridge statistics alone: the arm of the highest index, checked by nobody."""

    def __init__(self, n_arms: int, dim: int, seed: int, *, form: type[RidgeStatistics], precision: int = 64) -> None:
        self.statistics, self.y = form(n_arms, dim, 1, ridge=1.0, precision=precision), np.empty(1)
        self.quality = np.ones(1)

    def select(self, x: Any) -> int:
        return self.statistics.select(x, self.quality, ALPHA)

    def update(self, x: Any, arm: int, reward: float) -> None:
        self.y[0] = reward
        self.statistics.learn(arm, x, self.y, 1.0)


class Policy(Learner):
    """Our LinUCB as a caller has it: checked arguments, the exact distribution, the draw."""

    def __init__(self, n_arms: int, dim: int, seed: int) -> None:
        self.policy = LinUCB(n_arms=n_arms, dim=dim, alpha=ALPHA, floor=0.0)

    def select(self, x: Any) -> int:
        return draw(self.policy.probabilities(x), 0.5)

    def update(self, x: Any, arm: int, reward: float) -> None:
        self.policy.learn(x, arm, np.array([reward]))


class VowpalWabbit(Learner):
    """vowpal-wabbit-next, action-dependent features, interactions of context and arm; `prepare` parses the text."""

    def __init__(self, n_arms: int, dim: int, seed: int, *, options: str) -> None:
        import vowpal_wabbit_next as vw

        self.n_arms, self.rng = n_arms, np.random.default_rng(seed)
        self.workspace = vw.Workspace(f"--cb_explore_adf {options} -q SA --quiet".split())
        self.parser, self.label = vw.TextFormatParser(self.workspace), vw.CBLabel

    def prepare(self, x: Any) -> list[Any]:
        shared = "shared |S " + " ".join(f"{j}:{x[j]:.6g}" for j in np.flatnonzero(x))
        return [self.parser.parse_line(line) for line in (shared, *(f"|A a{a}" for a in range(self.n_arms)))]

    def select(self, x: Any) -> int:
        scores = self.workspace.predict_one(x)
        p = dict(scores)
        left = self.rng.random() * sum(p.values())
        for arm in range(self.n_arms):
            left -= p[arm]
            if left < 0:
                break
        self.p = p[arm]
        return arm

    def update(self, x: Any, arm: int, reward: float) -> None:
        x[arm + 1].set_label(self.label(label=(-reward, self.p)))
        self.workspace.learn_one(x)


class ParetoBandit(Learner):
    """ParetoBandit's router policy, with its own defaults unless `settings` say otherwise."""

    def __init__(self, n_arms: int, dim: int, seed: int, **settings: float) -> None:
        from pareto_bandit import DisjointLinUCBPolicy

        self.names = [str(a) for a in range(n_arms)]
        self.policy = DisjointLinUCBPolicy(self.names, dim=dim, seed=seed, **settings)

    def select(self, x: Any) -> int:
        return int(self.policy.select_arm(x)[0])

    def update(self, x: Any, arm: int, reward: float) -> None:
        self.policy.update(self.names[arm], x, reward)


class ParetoBanditRouter(Learner):
    """ParetoBandit's whole router: route a request, process its feedback."""

    def __init__(self, n_arms: int, dim: int, seed: int, **settings: float) -> None:
        from pareto_bandit import BanditRouter, RouterConfig

        class Vectors:
            dimension, bias_index = dim, dim - 1

            def extract_features(self, x: Any) -> Any:
                return x

        prices = {"input_cost_per_m": 1.0, "output_cost_per_m": 1.0}
        self.router = BanditRouter.create(
            model_registry={str(a): dict(prices) for a in range(n_arms)},
            priors="none",
            feature_service=Vectors(),
            config=RouterConfig(reward_min=-10.0, reward_max=10.0),
            cost_penalty=0.0,
            bandit_seed=seed,
            **settings,
        )

    def select(self, x: Any) -> int:
        arm, self.log = self.router.route(x)
        return int(arm)

    def update(self, x: Any, arm: int, reward: float) -> None:
        self.router.process_feedback(self.log.request_id, reward)


class BayesianBandits(Learner):
    """bayesianbandits' contextual agent: empirical-Bayes normal regressions, Thompson sampling."""

    def __init__(self, n_arms: int, dim: int, seed: int) -> None:
        from bayesianbandits import Arm, ContextualAgent, EmpiricalBayesNormalRegressor, ThompsonSampling

        arms = [Arm(a, learner=EmpiricalBayesNormalRegressor(random_state=seed + a)) for a in range(n_arms)]
        self.agent = ContextualAgent(arms, ThompsonSampling(), random_seed=seed)

    def select(self, x: Any) -> int:
        return int(self.agent.pull(x[None])[0])

    def update(self, x: Any, arm: int, reward: float) -> None:
        self.agent.select_for_update(arm).update(x[None], np.array([reward]))


class MABWiser(Learner):
    """MABWiser's LinUCB or LinTS."""

    def __init__(self, n_arms: int, dim: int, seed: int, *, policy: str, alpha: float) -> None:
        from mabwiser.mab import MAB, LearningPolicy

        self.mab = MAB(list(range(n_arms)), getattr(LearningPolicy, policy)(alpha=alpha), seed=seed)
        self.mab.fit(list(range(n_arms)), [0.5] * n_arms, np.zeros((n_arms, dim)))

    def select(self, x: Any) -> int:
        return int(self.mab.predict(x[None]))

    def update(self, x: Any, arm: int, reward: float) -> None:
        self.mab.partial_fit([arm], [reward], x[None])


class River(Learner):
    """river's LinUCBDisjoint."""

    def __init__(self, n_arms: int, dim: int, seed: int) -> None:
        from river.bandit import LinUCBDisjoint

        self.arms, self.policy = list(range(n_arms)), LinUCBDisjoint(seed=seed)

    def prepare(self, x: Any) -> dict[int, float]:
        return dict(enumerate(x.tolist()))

    def select(self, x: Any) -> int:
        return int(self.policy.pull(self.arms, x))

    def update(self, x: Any, arm: int, reward: float) -> None:
        self.policy.update(arm, x, reward)


class Gittins(Learner):
    """gittins: hashed context x action features, diagonal model, its default epsilon."""

    def __init__(self, n_arms: int, dim: int, seed: int) -> None:
        import gittins

        self.engine, self.state, self.salt, self.time = gittins, gittins.create(16, 1_000_000_000), str(seed), 0
        self.candidates = [(str(a), {f"arm{a}": 1.0}) for a in range(n_arms)]

    def prepare(self, x: Any) -> dict[str, float]:
        return {str(j): float(x[j]) for j in np.flatnonzero(x)}

    def select(self, x: Any) -> int:
        self.time += 1
        self.record = self.engine.decide(self.state, x, self.candidates, float(self.time), f"{self.salt}:{self.time}")
        return int(self.record.chosen)

    def update(self, x: Any, arm: int, reward: float) -> None:
        self.engine.learn(self.state, self.record.decision_id, reward, float(self.time))


class ContextualBandits(Learner):
    """contextualbandits' LinUCB, updated after every request."""

    def __init__(self, n_arms: int, dim: int, seed: int, *, alpha: float) -> None:
        from contextualbandits.online import LinUCB

        self.policy = LinUCB(n_arms, alpha=alpha, fit_intercept=False, use_float=False, random_state=seed + 1)
        self.policy.partial_fit(np.zeros((n_arms, dim)), np.arange(n_arms), np.full(n_arms, 0.5))

    def select(self, x: Any) -> int:
        return int(self.policy.predict(x[None])[0])

    def update(self, x: Any, arm: int, reward: float) -> None:
        self.policy.partial_fit(x[None], np.array([arm]), np.array([reward]))


class Coba(Learner):
    """coba's LinUCB, one joint regression over interactions with a one-hot arm; not for more than 1,100 of them."""

    def __init__(self, n_arms: int, dim: int, seed: int, *, alpha: float) -> None:
        from coba.learners import LinUCBLearner

        if n_arms * dim > 1100:
            raise ImportError("its inverse of all arms together takes seconds an update at this size")
        self.policy = LinUCBLearner(alpha=alpha, features=["ax"], seed=seed + 1)
        self.arms = [tuple(row) for row in np.eye(n_arms).tolist()]
        self.numbers = {arm: a for a, arm in enumerate(self.arms)}

    def prepare(self, x: Any) -> list[float]:
        return list(x.tolist())

    def select(self, x: Any) -> int:
        self.arm, self.p = self.policy.predict(x, self.arms)
        return self.numbers[self.arm]

    def update(self, x: Any, arm: int, reward: float) -> None:
        self.policy.learn(x, self.arm, reward, self.p)


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

OURS: dict[str, Make] = {
    "ours, kernels, 64 bits": lambda k, d, s: Statistics(k, d, s, form=CompiledRidge),
    "ours, kernels, 32 bits": lambda k, d, s: Statistics(k, d, s, form=CompiledRidge, precision=32),
    "ours, LinUCB policy": Policy,
    "ours, NumPy": lambda k, d, s: Statistics(k, d, s, form=RidgeStatistics),
}

AT_ONE_WIDTH: dict[str, Make] = OURS | {  # every optimistic rule with the same alpha
    "ParetoBandit policy": lambda k, d, s: ParetoBandit(k, d, s, alpha=ALPHA),
    "ParetoBandit router": lambda k, d, s: ParetoBanditRouter(k, d, s, alpha=ALPHA),
    "VW epsilon 0.05": _vw("--epsilon 0.05"),
    "VW SquareCB": _vw("--squarecb"),
    "gittins": Gittins,
    "river LinUCB": River,
    "MABWiser LinUCB": lambda k, d, s: MABWiser(k, d, s, policy="LinUCB", alpha=ALPHA),
    "contextualbandits LinUCB": lambda k, d, s: ContextualBandits(k, d, s, alpha=ALPHA),
    "bayesianbandits EB-TS": BayesianBandits,
    "coba LinUCB": lambda k, d, s: Coba(k, d, s, alpha=ALPHA),
}


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
