"""The River policies against River itself, and what a snapshot of River objects may hold."""

from __future__ import annotations

import copy
import pickle
from typing import Any, ClassVar

import numpy as np
import pytest
from river import bandit, drift, forest, linear_model, neighbors, optim, preprocessing, tree

from bandit_router.errors import InvalidInput
from bandit_router.policies import river_state
from bandit_router.policies.distributions import greedy, inverse_gap, softmax
from bandit_router.policies.river import RiverEpsilonGreedy, RiverPolicy, RiverSoftmax, RiverSquareCB

K, D = 3, 4


def stream(steps: int, seed: int = 0) -> list[tuple[np.ndarray, int, list[float]]]:
    rng = np.random.default_rng(seed)
    theta = rng.normal(size=(K, D))
    events = []
    for _ in range(steps):
        x, arm = rng.normal(size=D), int(rng.integers(K))
        events.append((x, arm, [float(0.5 + theta[arm] @ x / 5), 0.1 * arm + 0.01 * rng.normal()]))
    return events


def features(x: np.ndarray) -> dict[int, float]:
    return dict(enumerate(x.tolist()))


class Forest(RiverSquareCB):
    allow_pickle: ClassVar[tuple[str, ...]] = ("river",)

    def model(self, channel: int) -> Any:
        return forest.ARFRegressor(n_models=3, seed=channel)


class Scaled(RiverSquareCB):
    def model(self, channel: int) -> Any:
        return preprocessing.StandardScaler() | linear_model.LinearRegression()


class Logistic(RiverEpsilonGreedy):
    def model(self, channel: int) -> Any:
        scaler = preprocessing.StandardScaler()
        return scaler | (linear_model.LogisticRegression() if channel == 0 else linear_model.LinearRegression())


class Tree(RiverSoftmax):
    def model(self, channel: int) -> Any:
        return tree.HoeffdingTreeRegressor(grace_period=20)


@pytest.mark.parametrize("cls", [RiverSquareCB, Scaled, Forest, Tree])
def test_every_prediction_equals_that_of_raw_river(cls: type[RiverPolicy]) -> None:
    policy = cls(n_arms=K, dim=D, channels=2)
    raw = [[policy.model(channel) for channel in range(2)] for _ in range(K)]
    for x, arm, outcome in stream(150):
        expected = [[model.predict_one(features(x)) for model in models] for models in raw]
        assert policy.estimate(x).mean.tolist() == expected
        for model, y in zip(raw[arm], outcome, strict=True):
            model.learn_one(features(x), y)
        policy.learn(x, arm, outcome)


def test_a_classifier_predicts_its_probability_of_success() -> None:
    policy = Logistic(n_arms=K, dim=D, channels=2)
    raw = [preprocessing.StandardScaler() | linear_model.LogisticRegression() for _ in range(K)]
    for x, arm, outcome in stream(150):
        expected = [model.predict_proba_one(features(x))[True] for model in raw]
        assert policy.estimate(x).mean[:, 0].tolist() == expected
        raw[arm].learn_one(features(x), outcome[0] >= 0.5)
        policy.learn(x, arm, outcome)


def test_the_exploration_is_ours_on_rivers_priced_predictions() -> None:
    prices, penalty = np.array([1.0, -0.5]), np.array([0.0, 0.1, 0.3])
    for cls, settings, rule in (
        (RiverEpsilonGreedy, {"epsilon": 0.3}, lambda u, t: greedy(u, 0.3)),
        (RiverSoftmax, {"temperature": 0.2}, lambda u, t: softmax(u, 0.2)),
        (RiverSquareCB, {"rate": 5.0}, lambda u, t: inverse_gap(u, 5.0 * (1 + t) ** 0.5)),
    ):
        policy = cls(n_arms=K, dim=D, channels=2, **settings)
        for x, arm, outcome in stream(40):
            policy.learn(x, arm, outcome)
        x = stream(1, seed=5)[0][0]
        utility = policy.estimate(x).mean @ prices - penalty
        assert policy.probabilities(x, prices=prices, penalty=penalty) == pytest.approx(rule(utility, 40))


def test_a_weight_reaches_the_model_or_repeats_the_outcome_or_is_refused() -> None:
    for cls in (Scaled, RiverSquareCB):
        policy, raw = cls(n_arms=1, dim=D), cls(n_arms=1, dim=D).model(0)
        for x, _, outcome in stream(20):
            policy.learn(x, 0, outcome[:1], weight=3.0)
            for _ in range(1 if cls is Scaled else 3):
                raw.learn_one(features(x), outcome[0], **({"w": 3.0} if cls is Scaled else {}))
        assert policy.estimate(x).mean[0, 0] == raw.predict_one(features(x))
    with pytest.raises(InvalidInput, match="whole number"):
        policy.learn(x, 0, [0.5], weight=0.5)


def test_an_unmetered_channel_is_not_learned() -> None:
    policy = RiverSquareCB(n_arms=K, dim=D, channels=2)
    for x, arm, outcome in stream(20):
        policy.learn(x, arm, outcome)
    before = policy.estimate(x).mean[0]
    policy.learn(x, 0, [1.0, np.nan])
    after = policy.estimate(x).mean[0]
    assert after[1] == before[1]
    assert after[0] != before[0]


def test_an_added_arm_can_start_from_another_one() -> None:
    policy = RiverSquareCB(n_arms=K, dim=D)
    for x, arm, outcome in stream(60):
        policy.learn(x, arm, outcome[:1])
    new = policy.add_arm(like=1)
    before = policy.estimate(x).mean[:, 0]
    assert before[new] == before[1] != 0
    policy.learn(x, new, [5.0])
    after = policy.estimate(x).mean[:, 0]
    assert after[1] == before[1]
    assert after[new] != before[new]


def test_a_diverged_model_still_leaves_a_distribution() -> None:
    policy = RiverSoftmax(n_arms=2, dim=1)
    policy.models[0][0] = linear_model.LinearRegression(optimizer=optim.SGD(1e9), clip_gradient=1e300)
    for _ in range(60):
        policy.learn([1e3], 0, [1.0])
    assert not np.isfinite(policy.models[0][0].predict_one({0: 1.0}))
    assert policy.probabilities([1.0]).tolist() == [0.5, 0.5]


# -- snapshots ---------------------------------------------------------------------------------------------------

NUMERIC = {
    "scaled linear": lambda: preprocessing.StandardScaler() | linear_model.LinearRegression(),
    "l1": lambda: linear_model.LinearRegression(l1=0.01),
    "passive aggressive": linear_model.PARegressor,
    "bayesian": linear_model.BayesianLinearRegression,
    "scaled target": lambda: preprocessing.TargetStandardScaler(
        regressor=preprocessing.StandardScaler() | linear_model.LinearRegression()
    ),
}
PICKLED = {
    "adam": lambda: linear_model.LinearRegression(optimizer=optim.Adam()),
    "tree": lambda: tree.HoeffdingTreeRegressor(grace_period=20),
    "forest": lambda: forest.ARFRegressor(n_models=2, seed=1),
    "neighbours": neighbors.KNNRegressor,
}


def trained(make: Any, steps: int = 120) -> Any:
    model = make()
    for x, _, outcome in stream(steps):
        model.learn_one(features(x), outcome[0])
    return model


def same_future(model: Any, other: Any) -> bool:
    answers = []
    for x, _, outcome in stream(60, seed=3):
        answers.append(model.predict_one(features(x)) == other.predict_one(features(x)))
        model.learn_one(features(x), outcome[0])
        other.learn_one(features(x), outcome[0])
    return all(answers)


@pytest.mark.parametrize("name", NUMERIC)
def test_models_made_of_numbers_are_saved_without_pickle(name: str) -> None:
    make, model = NUMERIC[name], trained(NUMERIC[name])
    data = river_state.save([model], lambda: [make()], ())
    again = river_state.load(data, lambda: [make()], ())[0]
    assert river_state.save([again], lambda: [make()], ()).tobytes() == data.tobytes()
    assert same_future(model, again)


def test_a_number_of_numpy_stays_one() -> None:
    """From Python 3.12 on `sum` rounds floats and NumPy's differently, so a reload would predict otherwise."""
    make = NUMERIC["passive aggressive"]
    model = trained(make)
    again = river_state.load(river_state.save([model], lambda: [make()], ()), lambda: [make()], ())[0]
    assert type(model.intercept) is type(again.intercept) is np.float64
    assert {type(weight) for weight in again.weights.values()} == {np.float64}


@pytest.mark.parametrize("name", PICKLED)
def test_models_that_grow_need_pickle_allowed_by_name(name: str) -> None:
    make, model = PICKLED[name], trained(PICKLED[name])
    with pytest.raises(InvalidInput, match=r"allow_pickle = \(\"river\",\)"):
        river_state.save([model], lambda: [make()], ())
    data = river_state.save([model], lambda: [make()], ("river",))
    with pytest.raises(InvalidInput, match="holds a pickle"):
        river_state.load(data, lambda: [make()], ())
    assert same_future(model, river_state.load(data, lambda: [make()], ("river",))[0])


class Attack:
    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('the snapshot ran code')",))


@pytest.mark.parametrize(
    ("raw", "named"),
    [
        (pickle.dumps([Attack()]), r"builtins\.exec"),
        (b"\x80\x04\x8c\x13river.datasets.base\x8c\x09os.system\x93.", r"river\.datasets\.base\.os\.system"),
        (b"criver.datasets.base\nos\n.", r"river\.datasets\.base\.os"),
    ],
)
def test_an_allowed_pickle_still_cannot_reach_other_packages(raw: bytes, named: str) -> None:
    with pytest.raises(InvalidInput, match=f"names {named};"):
        river_state.load(np.frombuffer(b"P" + raw, dtype=np.uint8), list, ("river",))


def test_a_policy_class_states_the_permission_not_the_snapshot() -> None:
    policy = Forest(n_arms=2, dim=D)
    for x, arm, outcome in stream(60):
        policy.learn(x, arm % 2, outcome[:1])
    again = Forest.from_state(policy.state())
    assert [again.probabilities(x).tolist() for x, *_ in stream(20, 1)] == [
        policy.probabilities(x).tolist() for x, *_ in stream(20, 1)
    ]
    strict = type("Strict", (Forest,), {"allow_pickle": ()})
    with pytest.raises(InvalidInput, match="refused"):
        strict.from_state(policy.state())
    unsaved = strict(n_arms=2, dim=D)
    unsaved.models = policy.models
    with pytest.raises(InvalidInput, match="refused"):
        unsaved.state()


@pytest.mark.parametrize("data", [b"N{", b"N[[1]]", b"N[]", b"", b"Pnonsense"])
def test_damaged_bytes_are_refused(data: bytes) -> None:
    state = RiverSquareCB(n_arms=2, dim=1).state() | {"models": np.frombuffer(data, dtype=np.uint8)}
    with pytest.raises(InvalidInput):
        type("Trusting", (RiverSquareCB,), {"allow_pickle": ("river",)}).from_state(state)


@pytest.mark.parametrize("make", [drift.PageHinkley, lambda: drift.KSWIN(seed=1)])
def test_detectors_in_plain_python_are_saved_as_numbers(make: Any) -> None:
    rng, detector = np.random.default_rng(0), make()
    for value in rng.normal(size=150):
        detector.update(value)
    other = river_state.load(river_state.save([detector], lambda: [make()], ()), lambda: [make()], ())[0]
    for value in np.concatenate([rng.normal(size=50), rng.normal(3.0, 1.0, size=200)]):
        detector.update(value)
        other.update(value)
        assert detector.drift_detected == other.drift_detected
    assert copy.deepcopy(vars(detector)).keys() == vars(other).keys()


# -- why River's own bandits are not wrapped ------------------------------------------------------------------


def test_rivers_linucb_breaks_with_burn_in_and_its_pull_moves_random_state() -> None:
    policy = bandit.LinUCBDisjoint(burn_in=1, seed=1)
    with pytest.raises(AttributeError, match="_update"):
        policy.update(policy.pull([0, 1], context={"x": 1.0}), {"x": 1.0}, 1.0)
    policy = bandit.EpsilonGreedy(epsilon=0.5, seed=1)
    before = policy._rng.getstate()
    policy.pull([0, 1])
    assert policy._rng.getstate() != before
