"""The Vowpal Wabbit policies against vowpal-wabbit-next itself, on the same data and seed."""

from __future__ import annotations

import copy
import json
import logging
from pathlib import Path

import numpy as np
import pytest
import vowpal_wabbit_next as vw

from bandit_router.errors import InvalidInput
from bandit_router.policies.vw import Estimator, VWModel, VWPolicy
from bandit_router.policies.vw_explorations import (
    VWRND,
    VWBag,
    VWCover,
    VWEpsilonGreedy,
    VWRegCB,
    VWSoftmax,
    VWSquareCB,
)
from bandit_router.policies.vw_workspace import seal, unseal

K, D = 4, 3
EXPLORATIONS = [VWEpsilonGreedy, VWSoftmax, VWSquareCB, VWBag, VWCover, VWRegCB, VWRND]
SHIFTABLE = [VWEpsilonGreedy, VWSoftmax, VWSquareCB, VWBag, VWCover, VWRegCB]
ESTIMATED = [VWEpsilonGreedy, VWSoftmax, VWBag, VWCover, VWRND]
CASES = [(cls, {}) for cls in EXPLORATIONS] + [(cls, {"estimator": kind}) for cls in ESTIMATED for kind in Estimator]


def names(value: object) -> str:
    return value.__name__ if isinstance(value, type) else "-".join(str(v.name) for v in value.values()) or "default"


def stream(steps: int, seed: int = 0, arms: int = K) -> list[tuple[np.ndarray, int, float, float]]:
    """Contexts in quarters (VW reads longer decimals 1 ulp off), an arm, its quality and a propensity."""
    rng = np.random.default_rng(seed)
    theta = rng.normal(size=(arms, D))
    events = []
    for _ in range(steps):
        x, arm = rng.integers(-8, 9, size=D) / 4, int(rng.integers(arms))
        events.append((x, arm, round(float(np.clip(0.5 + theta[arm] @ x / 3, 0, 1)) * 256) / 256, 0.25))
    return events


def train(policy: VWPolicy, events: list[tuple[np.ndarray, int, float, float]]) -> VWPolicy:
    for x, arm, quality, propensity in events:
        policy.learn(x, arm, [quality], propensity=propensity)
    return policy


def probes(policy: VWPolicy, **arguments: object) -> np.ndarray:
    return np.array([policy.probabilities(x, **arguments) for x, *_ in stream(30, seed=9)])


def text_lines(x: np.ndarray, arms: range | list[int]) -> list[str]:
    return ["shared |S " + " ".join(f"{j}:{v}" for j, v in enumerate(x)), *(f"|A {arm}" for arm in arms)]


@pytest.mark.parametrize(("cls", "settings"), CASES, ids=names)
def test_every_prediction_equals_that_of_raw_vowpal_wabbit(cls: type[VWPolicy], settings: dict[str, Estimator]) -> None:
    policy = cls(n_arms=K, dim=D, seed=5, **settings)
    raw = vw.Workspace(policy._command_line())
    parser = vw.TextFormatParser(raw)
    for x, arm, quality, propensity in stream(200):
        examples = [parser.parse_line(line) for line in text_lines(x, range(K))]
        expected = np.zeros(K)
        for action, p in raw.predict_one(examples):
            expected[action] = p
        expected /= expected.sum()
        if cls is VWRegCB:
            expected = 0.99 * expected + 0.01 / K
        assert policy.probabilities(x).tolist() == expected.tolist()
        examples[arm + 1].set_label(vw.CBLabel(label=(0, -quality, propensity)))
        raw.learn_one(examples)
        policy.learn(x, arm, [quality], propensity=propensity)


@pytest.mark.parametrize(("cls", "settings"), CASES, ids=names)
def test_a_reloaded_policy_chooses_and_learns_as_the_original(
    cls: type[VWPolicy], settings: dict[str, Estimator]
) -> None:
    policy = train(cls(n_arms=K, dim=D, seed=5, **settings), stream(150))
    again = cls.from_state({name: np.array(array) for name, array in policy.state().items()})
    assert probes(again).tolist() == probes(policy).tolist()
    train(policy, stream(100, seed=1))
    train(again, stream(100, seed=1))
    assert probes(again).tolist() == probes(policy).tolist()
    assert again.steps == policy.steps == 250


@pytest.mark.parametrize("cls", EXPLORATIONS, ids=names)
def test_deciding_changes_nothing_that_is_saved(cls: type[VWPolicy]) -> None:
    policy = train(cls(n_arms=K, dim=D), stream(80))
    before = policy.state()["model"].tobytes()
    probes(policy)
    if cls in SHIFTABLE:
        probes(policy, penalty=np.array([0.3, 0.0, 5.0, 0.1]))
    assert policy.state()["model"].tobytes() == before


@pytest.mark.parametrize("cls", EXPLORATIONS, ids=names)
def test_only_eligible_arms_are_shown_to_vowpal_wabbit(cls: type[VWPolicy]) -> None:
    policy = train(cls(n_arms=K, dim=D), stream(80))
    p = probes(policy, eligible=np.array([True, False, True, True]))
    assert (p[:, 1] == 0).all()
    assert np.allclose(p.sum(axis=1), 1, atol=1e-12)


def test_a_penalty_multiplies_softmax_odds_by_its_exponential() -> None:
    policy = train(VWSoftmax(n_arms=K, dim=D, inverse_temperature=4.0), stream(200))
    penalty = np.array([0.2, 0.0, 0.7, 0.05])
    expected = probes(policy) * np.exp(-4.0 * penalty)
    expected /= expected.sum(axis=1, keepdims=True)
    assert np.allclose(probes(policy, penalty=penalty), expected, atol=2e-6)


def test_a_penalty_widens_squarecb_gaps_by_itself() -> None:
    policy = train(VWSquareCB(n_arms=2, dim=D, gamma_scale=1.0), stream(100, arms=2))
    x = np.array([0.5, 0.25, -0.5])
    p = policy.probabilities(x)
    best, other = int(p.argmax()), int(p.argmin())
    gamma = 100**0.5
    gap = (1 / p[other] - 2) / gamma
    penalty = np.zeros(2)
    penalty[other] = 0.4
    assert policy.probabilities(x, penalty=penalty)[other] == pytest.approx(1 / (2 + gamma * (gap + 0.4)), rel=1e-4)
    penalty = np.zeros(2)
    penalty[best] = gap + 0.3
    assert policy.probabilities(x, penalty=penalty)[best] == pytest.approx(1 / (2 + gamma * 0.3), rel=1e-4)


@pytest.mark.parametrize("cls", SHIFTABLE, ids=names)
def test_a_large_penalty_removes_an_arm_and_one_on_all_nothing(cls: type[VWPolicy]) -> None:
    """A penalty on all arms changes nothing and a large one removes an arm."""
    policy = train(cls(n_arms=K, dim=D), stream(200))
    assert probes(policy, penalty=np.full(K, 3.0)).tolist() == probes(policy).tolist()
    favourite = int(probes(policy).sum(axis=0).argmax())
    penalty = np.zeros(K)
    penalty[favourite] = 50.0
    assert probes(policy, penalty=penalty)[:, favourite].max() <= 0.02


def test_regcb_takes_a_penalty_for_known() -> None:
    """A feature of no effect leaves the range of plausible costs where it is."""
    policy = train(VWRegCB(n_arms=K, dim=D, mellowness=0.1), stream(300))
    for x, *_ in stream(50, seed=2):
        plain = policy.workspace.predict(x, range(K), None)
        assert policy.workspace.predict(x, range(K), np.zeros(K)).tolist() == plain.tolist()


@pytest.mark.parametrize("cls", SHIFTABLE, ids=names)
def test_metered_channels_are_priced_when_deciding(cls: type[VWPolicy]) -> None:
    policy = cls(n_arms=2, dim=1, channels=2)
    for _ in range(60):
        for arm, cost in ((0, 0.9), (1, 0.1)):
            policy.learn([1.0], arm, [0.5 + 0.1 * (arm == 0), cost], propensity=0.5)
    assert policy.probabilities([1.0], prices=np.array([1.0, 0.0]))[0] > 0.6
    assert policy.probabilities([1.0], prices=np.array([1.0, -1.0]))[1] > 0.6
    assert policy.probabilities([1.0], prices=np.array([0.0, -1.0]))[1] > 0.6
    assert policy.estimate([1.0]).mean[:, 1] == pytest.approx([0.9, 0.1], abs=0.05)


def test_an_unmetered_channel_is_left_where_it_is() -> None:
    policy = VWEpsilonGreedy(n_arms=2, dim=1, channels=2)
    policy.learn([1.0], 0, [0.5, 0.8])
    before = policy.estimate([1.0]).mean[0, 1]
    policy.learn([1.0], 0, [0.5, np.nan])
    assert policy.estimate([1.0]).mean[0, 1] == pytest.approx(before)


def test_rnd_refuses_penalties_and_a_negative_price_of_quality_is_refused() -> None:
    with pytest.raises(InvalidInput, match="VWRND cannot honour"):
        VWRND(n_arms=2, dim=1).probabilities([1.0], penalty=np.array([0.0, 0.1]))
    with pytest.raises(InvalidInput, match="at least 0"):
        VWBag(n_arms=2, dim=1).probabilities([1.0], prices=np.array([-1.0]))


@pytest.mark.parametrize("cls", EXPLORATIONS, ids=names)
def test_an_added_arm_is_usable_learns_and_survives_a_save(cls: type[VWPolicy]) -> None:
    policy = train(cls(n_arms=K, dim=D), stream(60))
    assert policy.add_arm() == K
    for x, *_ in stream(150, seed=3):
        policy.learn(x, K, [1.0], propensity=0.2)
        policy.learn(x, 0, [0.0], propensity=0.2)
    p = probes(policy)
    assert p[:, K].mean() > p[:, 0].mean()
    assert probes(cls.from_state(policy.state())).tolist() == p.tolist()


@pytest.mark.slow
@pytest.mark.parametrize(("cls", "settings"), CASES, ids=names)
def test_a_reload_with_an_added_arm_goes_on_as_the_original(
    cls: type[VWPolicy], settings: dict[str, Estimator]
) -> None:
    """With an added arm a reloaded policy still chooses and learns as the original."""
    policy = train(cls(n_arms=K, dim=D, seed=5, **settings), stream(150))
    policy.add_arm()
    for seed in (1, 2):  # saved before the arm has learned anything, and after
        again = cls.from_state(policy.state())
        train(policy, stream(150, seed=seed, arms=K + 1))
        train(again, stream(150, seed=seed, arms=K + 1))
        assert probes(again).tolist() == probes(policy).tolist()
        assert again.state()["model"].tobytes() == policy.state()["model"].tobytes()


def test_a_weight_is_vowpal_wabbits_importance_weight() -> None:
    policy = VWSoftmax(n_arms=K, dim=D, inverse_temperature=3.0)
    raw = vw.Workspace(policy._command_line())
    parser = vw.TextFormatParser(raw)
    for x, arm, quality, propensity in stream(50):
        examples = [parser.parse_line(line) for line in text_lines(x, range(K))]
        examples[arm + 1].set_label(vw.CBLabel(label=(0, -quality, propensity), weight=2.5))
        raw.learn_one(examples)
        policy.learn(x, arm, [quality], weight=2.5, propensity=propensity)
    x = np.array([0.5, -0.5, 1.0])
    expected = dict(raw.predict_one([parser.parse_line(line) for line in text_lines(x, range(K))]))
    assert policy.probabilities(x) == pytest.approx([expected[arm] for arm in range(K)], abs=1e-7)


@pytest.mark.parametrize("cls", [VWEpsilonGreedy, VWBag, VWCover, VWSoftmax], ids=names)
def test_the_delta_of_one_replica_rebuilds_it(cls: type[VWPolicy]) -> None:
    base = train(cls(n_arms=K, dim=D, channels=1), stream(50))
    replica = copy.deepcopy(base)
    train(replica, stream(100, seed=1))
    delta = replica.delta(base.state())
    base.merge([delta])
    assert base.steps == 150
    assert np.allclose(probes(base), probes(replica), atol=1e-6)


def test_merged_replicas_agree_with_what_vowpal_wabbit_merges() -> None:
    base = train(VWSoftmax(n_arms=K, dim=D), stream(50))
    model = unseal(base.state()["model"])
    replicas = [train(copy.deepcopy(base), stream(80, seed=seed)) for seed in (1, 2)]
    deltas = [replica.delta(base.state()) for replica in replicas]
    parts = [vw.calculate_delta(vw.Workspace([], model_data=model), replica.workspace.inner) for replica in replicas]
    merged = vw.apply_delta(vw.Workspace([], model_data=model), vw.merge_deltas(parts))
    base.merge(deltas)
    x = np.array([0.5, -0.5, 1.0])
    parser = vw.TextFormatParser(merged)
    expected = dict(merged.predict_one([parser.parse_line(line) for line in text_lines(x, range(K))]))
    assert base.probabilities(x) == pytest.approx([expected[arm] for arm in range(K)], abs=1e-7)


def test_the_metered_channels_of_replicas_are_added() -> None:
    base = VWEpsilonGreedy(n_arms=2, dim=1, channels=2)
    together = copy.deepcopy(base)
    replicas = [copy.deepcopy(base) for _ in range(2)]
    for replica, costs in zip(replicas, ([0.2, 0.4], [0.9]), strict=True):
        for cost in costs:
            replica.learn([1.0], 0, [0.5, cost])
            together.learn([1.0], 0, [0.5, cost])
    base.merge([replica.delta(base.state()) for replica in replicas])
    assert base.estimate([1.0]).mean[:, 1] == pytest.approx(together.estimate([1.0]).mean[:, 1])
    assert base.steps == 3


@pytest.mark.parametrize("cls", [VWSquareCB, VWRegCB], ids=names)
def test_explorations_whose_step_count_deltas_lose_refuse_to_merge(cls: type[VWPolicy]) -> None:
    policy = cls(n_arms=2, dim=1)
    with pytest.raises(InvalidInput, match="replay the logs"):
        policy.delta(policy.state())
    with pytest.raises(InvalidInput, match="replay the logs"):
        policy.merge([])


@pytest.mark.parametrize(
    "damage", [lambda b: b[:500], lambda b: b[:2], lambda b: b[:300] + bytes([b[300] ^ 1]) + b[301:]]
)
def test_a_damaged_model_is_refused(damage: object) -> None:
    state = train(VWBag(n_arms=K, dim=D), stream(50)).state()
    state["model"] = np.frombuffer(damage(state["model"].tobytes()), dtype=np.uint8)
    with pytest.raises(InvalidInput, match="checksum"):
        VWBag.from_state(state)


def test_a_sealed_model_that_is_none_is_refused() -> None:
    state = VWBag(n_arms=K, dim=D).state()
    state["model"] = seal(b"not a model" * 20)
    with pytest.raises(InvalidInput, match="refused"):
        VWBag.from_state(state)


@pytest.mark.parametrize("arguments", [([1e20, 0, 0], 0, [0.5]), ([0, 0, 0], 0, [1e30]), ([np.nan, 0, 0], 0, [0.5])])
def test_values_beyond_float32_are_refused_before_anything_changes(
    arguments: tuple[list[float], int, list[float]],
) -> None:
    policy = train(VWEpsilonGreedy(n_arms=K, dim=D), stream(20))
    before = policy.state()
    with pytest.raises(InvalidInput):
        policy.learn(*arguments)
    after = policy.state()
    assert all(after[name].tobytes() == before[name].tobytes() for name in before)


def test_the_slot_of_the_penalty_avoids_trained_weights() -> None:
    policy = VWSoftmax(n_arms=60, dim=D, bits=8, inverse_temperature=2.0)
    rng = np.random.default_rng(0)
    for _ in range(180):
        policy.learn(rng.normal(size=D), int(rng.integers(60)), [rng.random()], propensity=0.1)
    penalty = rng.random(60)
    x = rng.normal(size=D)
    expected = policy.probabilities(x) * np.exp(-2.0 * penalty)
    assert policy.probabilities(x, penalty=penalty) == pytest.approx(expected / expected.sum(), abs=1e-5)
    assert policy.workspace._skip > 1  # so the last slot was not free at this size


# -- users of the command line ----------------------------------------------------------------------------------


def dsjson(x: np.ndarray, arm: int, quality: float, propensity: float) -> str:
    others = [a + 1 for a in range(K) if a != arm]
    return json.dumps(
        {
            "_label_cost": -quality,
            "_label_probability": propensity,
            "_label_Action": arm + 1,
            "_labelIndex": arm,
            "a": [arm + 1, *others],
            "p": [propensity] + [(1 - propensity) / (K - 1)] * (K - 1),
            "c": {"S": {str(j): v for j, v in enumerate(x)}, "_multi": [{"A": {str(a): 1}} for a in range(K)]},
        }
    )


@pytest.mark.parametrize("exploration", ["--epsilon 0.1", "--squarecb", "--softmax --lambda 5"])
def test_a_command_line_model_learns_on_from_a_dsjson_log(tmp_path: Path, exploration: str) -> None:
    events = stream(120)
    first, second, both = (tmp_path / f"{name}.json" for name in ("first", "second", "both"))
    texts = [dsjson(*event) + "\n" for event in events]
    first.write_text("".join(texts[:70]))
    second.write_text("".join(texts[70:]))
    both.write_text("".join(texts))
    options = ["--cb_explore_adf", *exploration.split(), "-q", "SA", "--dsjson"]
    for log in (first, both):
        vw.run_cli_driver([*options, "-d", str(log), "-f", str(log.with_suffix(".vw"))])
    policy = VWModel.from_vw_model(first.with_suffix(".vw"), n_arms=K, dim=D)
    assert policy.learn_dsjson(second) == policy.steps == 50
    whole = VWModel.from_vw_model(both.with_suffix(".vw").read_bytes(), n_arms=K, dim=D)
    assert probes(policy).tolist() == probes(whole).tolist()
    online = VWModel.from_vw_model(first.with_suffix(".vw"), n_arms=K, dim=D)
    assert np.allclose(probes(train(online, events[70:])), probes(whole), atol=1e-6)
    assert probes(VWModel.from_state(policy.state())).tolist() == probes(policy).tolist()


def test_named_features_are_given_as_a_layout(tmp_path: Path) -> None:
    log = tmp_path / "named.txt"
    log.write_text(
        "shared |User length:0.5 code:1\n0:-1:0.5 |Model id=small\n|Model id=large\n\n"
        "shared |User length:0.5 code:1\n|Model id=small\n0:0:0.5 |Model id=large\n\n"
        "shared |User length:2 code:0\n0:0:0.5 |Model id=small\n|Model id=large\n\n"
        "shared |User length:2 code:0\n|Model id=small\n0:-1:0.5 |Model id=large\n\n" * 50
    )
    model = tmp_path / "named.vw"
    vw.run_cli_driver(["--cb_explore_adf", "-q", "UM", "-d", str(log), "-f", str(model)])
    layout = ["shared |User length:1 code:1", "|Model id=small", "|Model id=large"]
    policy = VWModel.from_vw_model(model, n_arms=2, dim=2, layout=layout)
    assert policy.probabilities([0.5, 1.0])[0] == pytest.approx(0.975)
    assert policy.probabilities([2.0, 0.0])[1] == pytest.approx(0.975)
    again = VWModel.from_state(policy.state())
    assert again.probabilities([2.0, 0.0]).tolist() == policy.probabilities([2.0, 0.0]).tolist()
    with pytest.raises(InvalidInput, match="3 features in one namespace, got 2"):
        VWModel.from_vw_model(model, n_arms=2, dim=3, layout=layout)
    with pytest.raises(InvalidInput, match="1 arm lines"):
        VWModel.from_vw_model(model, n_arms=1, dim=2, layout=layout)


def test_lines_without_a_label_are_passed_over_and_broken_ones_named(tmp_path: Path) -> None:
    x, arm, quality, propensity = stream(1)[0]
    skipped = json.loads(dsjson(x, arm, quality, propensity)) | {"_skipLearn": True}
    log = tmp_path / "log.json"
    log.write_text(
        "\n".join([dsjson(x, arm, quality, propensity), '{"EventId": "e", "v": 1}', "", json.dumps(skipped)])
    )
    policy = VWModel(n_arms=K, dim=D)
    assert policy.learn_dsjson(log) == 1
    log.write_text("{oops")
    with pytest.raises(InvalidInput, match=r"log.json:1 is not JSON"):
        policy.learn_dsjson(log)


def test_a_model_of_another_kind_is_refused() -> None:
    with pytest.raises(InvalidInput, match="Bad model format"):
        VWModel.from_vw_model(vw.Workspace(["--cb_explore_adf"]).serialize()[:40], n_arms=2, dim=2)
    with pytest.raises(InvalidInput, match="cb_explore_adf"):
        VWModel.from_vw_model(vw.Workspace([]).serialize(), n_arms=2, dim=2)


def test_vowpal_wabbits_messages_go_to_logging(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.INFO):
        policy = VWEpsilonGreedy(n_arms=2, dim=1)
        policy.workspace.inner.learn_one(
            [
                vw.TextFormatParser(policy.workspace.inner).parse_line(f"{label}|A {label[:1] or 1}")
                for label in ("0:1:-0.5 ", "")
            ]
        )
    assert any(record.name == "vowpal_wabbit_next.driver" for record in caplog.records)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("form", ["no event id", "label last", "a hair over 1", "utf-16", "gzip"])
def test_what_the_log_reader_takes_is_learned_the_same(form: str, tmp_path: Path) -> None:
    """A line in another spelling is taken by the log reader and learned as VW learns it in its own."""
    import gzip

    from bandit_router.replay.logs import Intake, read_logs

    plain = dsjson(np.array([1.0, 0.5]), 1, 1.0, 1.0 if form == "a hair over 1" else 0.5)
    record = json.loads(plain)
    if form == "no event id":
        record.pop("EventId", None)
    if form == "a hair over 1":
        record["_label_probability"] = 1.0000001192092896
    if form == "label last":
        record = {"c": record.pop("c"), **record}
    line = json.dumps(record)
    odd, own = tmp_path / "odd.dsjson", tmp_path / "own.dsjson"
    raw = line.encode("utf-16" if form == "utf-16" else "utf-8")
    odd.write_bytes(gzip.compress(raw) if form == "gzip" else raw)
    own.write_text(plain)
    intake = Intake(strict=True)
    read_logs([odd], intake)
    assert intake.taken == 1
    models = []
    for path in (odd, own):
        policy = VWModel(n_arms=2, dim=2)
        assert policy.learn_dsjson(path) == 1
        models.append(policy.workspace.serialize())
    assert np.array_equal(*models)
    assert not np.array_equal(models[0], VWModel(n_arms=2, dim=2).workspace.serialize())
