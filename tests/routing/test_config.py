"""A router from a TOML file: every section arrives, and a mistake is told with its line and what is allowed there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from bandit_router.encoding.contexts import OneHotTask, Request
from bandit_router.encoding.sections import ENCODERS
from bandit_router.encoding.text import fit_pca
from bandit_router.errors import InvalidInput
from bandit_router.policies import DEFAULT_POLICY, POLICIES
from bandit_router.policies.monitor import DriftMonitor
from bandit_router.records.outcomes import Outcome
from bandit_router.routing.config import MonitorSection, RouterConfig, load_config, schema
from bandit_router.routing.router import Router
from bandit_router.toml_files import parse_toml

FULL = """\
context = [{kind = "bias"}, {kind = "task", tasks = ["code", "chat"]}]

[[arms]]
id = "small"

[[arms]]
id = "large"
kind = "adapter"
size_bytes = 1000000

[policy]
name = "LinUCB"
settings = {alpha = 0.1}
monitor = {threshold = 12.0}

[objective]
prices = {cost_usd = 0.2}
scales = {cost_usd = 0.01}

[objective.rewards]
window_s = 60
default = {quality = 0.0, cost_usd = 0.0}

[rollout]
baseline = "small"
holdout = 0.05
caps = {large = 0.5}
guard = {slack = 0.1}

[[budgets.limits]]
kind = "window"
name = "day"
channel = "cost_usd"
total = 20.0
window_s = 86400.0

[budgets.expected.small]
cost_usd = 0.001

[residency]
capacity_slots = 1

[store]
kind = "memory"
max_events = 10

[key]
env = "ROUTER_KEY"
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ROUTER_KEY", "secret")
    path = tmp_path / "router.toml"
    path.write_text(FULL)
    return path


def test_every_section_arrives_at_the_router(file: Path) -> None:
    router = Router.from_config(file, clock=lambda: 7.0)
    assert router.catalogue.ids == ("small", "large")
    assert (router.policy.dim, router.policy.settings()["alpha"]) == (4, 0.1)
    assert router.learner.monitor is not None
    assert router.learner.monitor.threshold == 12.0
    assert router.utility.prices == {"cost_usd": 0.2}
    assert (router.rollout.baseline, router.rollout.holdout, router.rollout.caps) == ("small", 0.05, {"large": 0.5})
    assert router.rollout.guard is not None
    assert router.budgets is not None
    assert [row["limit"] for row in router.budgets.report()] == []
    assert router.key == b"secret"
    decision = router.decide(Request(task="chat"), event_id="e")
    assert decision.context.tolist() == [1.0, 0.0, 1.0, 0.0]
    assert decision.timestamp_s == 7.0
    assert decision.booking is not None
    with pytest.raises(InvalidInput, match="max_events"):
        parse_toml(FULL.replace("max_events = 10", "max_events = 0"), RouterConfig, name="r.toml")


def test_the_cache_beside_the_router_is_the_file_s(file: Path) -> None:
    config, router = load_config(file), Router.from_config(file)
    assert config.residency is not None
    penalty = config.residency.build(router).penalty()
    assert penalty == {"small": 0.0, "large": 0.3}  # the slowest load costs the whole weight


def test_two_routers_of_one_file_share_nothing(file: Path) -> None:
    config = load_config(file)
    one, two = Router(**config.arguments()), Router(**config.arguments())
    one.decide([1.0, 0.0, 0.0, 1.0], event_id="e")
    assert one.budgets is not two.budgets
    assert (one.counters["decided"], two.counters["decided"]) == (1, 0)


def test_a_database_is_opened_with_its_settings(tmp_path: Path, file: Path) -> None:
    store = f'kind = "database"\nurl = "sqlite:///{tmp_path}/e.db"\nmax_events = 3\nsnapshot_key = {{file = "sign"}}'
    file.write_text(FULL.replace('kind = "memory"\nmax_events = 10', store))
    (tmp_path / "sign").write_bytes(b"signing\n")
    with Router.from_config(file) as router:
        router.decide(Request(task="code"), event_id="e")
        assert router.events.max_events == 3
        assert router.events.settings.snapshot_key == b"signing"


# Each mistake in the file above, and what is said of it.
MISTAKES = [
    ("holdout", "hold_out", "line 26: unknown name 'hold_out' (at rollout.hold_out); there are mode, holdout"),
    ("total", "totl", "line 34: unknown name 'totl' (at budgets.limits.0.totl); there are kind, channel"),
    ("total = 20.0", 'total = "x"', "line 34: Expected `float`, got `str` (at budgets.limits.0.total)"),
    ("total = 20.0", "total = -1", "line 30: limit 'day': total must be finite and greater than 0"),
    ('"window"', '"windw"', "line 31: Invalid value 'windw' (at budgets.limits.0.kind); there are rate, window"),
    ('"task"', '"tsk"', "line 1: context: unknown encoder 'tsk', did you mean 'task'? there are bias, task"),
    ("tasks", "taks", "line 1: context: OneHotTask has no setting 'taks', did you mean 'tasks'? it has tasks"),
    ('id = "large"', 'kid = "large"', "line 7: unknown name 'kid' (at arms.1.kid); there are id, kind"),
    ('id = "large"', 'id = "small"', "line 3: arms: arm 'small' is in the catalogue already"),
    ('baseline = "small"', 'baseline = "smal"', "line 24: rollout: unknown arm 'smal'; the catalogue has small, large"),
    ("expected.small", "expected.smal", "line 30: budgets: unknown arm 'smal'"),
    ("cost_usd = 0.001", "cost_us = 0.001", "line 38: unknown name 'cost_us' (at budgets.expected.small.cost_us)"),
    ("cost_usd = 0.2", "cost_us = 0.2", "line 16: prices: unknown channel 'cost_us'"),
    ("[rollout]", "[rolout]", "line 24: unknown name 'rolout' (at rolout); there are arms, context, policy"),
    ("alpha", "alhpa", "line 11: policy: LinUCB has no setting 'alhpa', did you mean 'alpha'?"),
    ('"LinUCB"', '"LinUBC"', "line 11: unknown policy 'LinUBC', did you mean 'LinUCB'?"),
    ("window_s = 60", "window_s = 0", "line 20: window_s must be greater than 0, got 0.0 (at objective.rewards)"),
    ("capacity_slots = 1", "", "line 40: residency needs capacity_slots or capacity_mb"),
    ('env = "ROUTER_KEY"', "", "line 47: a secret is read from env or from file"),
]


@pytest.mark.parametrize(("right", "wrong", "said"), MISTAKES, ids=[wrong or right for right, wrong, _ in MISTAKES])
def test_a_mistake_is_told_with_its_line_and_what_is_allowed(right: str, wrong: str, said: str) -> None:
    assert right in FULL
    with pytest.raises(InvalidInput) as error:
        parse_toml(FULL.replace(right, wrong, 1), RouterConfig, name="router.toml")
    assert str(error.value).startswith(f"router.toml, {said}"), str(error.value)


def test_what_is_no_toml_or_no_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"router.toml: .*line 2"):
        parse_toml("context = 1\narms = [}", RouterConfig, name="router.toml")
    with pytest.raises(InvalidInput, match="No such file"):
        load_config(tmp_path / "missing.toml")
    (tmp_path / "latin.toml").write_bytes(b"\xff")
    with pytest.raises(InvalidInput, match="UTF-8"):
        load_config(tmp_path / "latin.toml")


@pytest.mark.parametrize(("content", "said"), [(None, "cannot read the secret"), ("\n", "no secret in file")])
def test_a_secret_that_is_not_there_is_told(file: Path, content: str | None, said: str) -> None:
    file.write_text(FULL.replace('env = "ROUTER_KEY"', 'file = "key"'))
    if content is not None:
        (file.parent / "key").write_text(content)
    with pytest.raises(InvalidInput, match=f"key: {said}"):
        Router.from_config(file)


def test_the_schema_accepts_the_file_and_knows_every_section() -> None:
    document: dict[str, Any] = schema()
    definition = document["$defs"]["RouterConfig"]
    assert set(definition["properties"]) == set(RouterConfig.__struct_fields__)
    assert "LinUCB" in document["$defs"]["PolicySection"]["properties"]["name"]["enum"]
    assert definition["additionalProperties"] is False


def test_the_schema_knows_the_settings_of_each_policy() -> None:
    rules = {rule["if"]["properties"]["name"]["const"]: rule for rule in schema()["$defs"]["PolicySection"]["allOf"]}
    assert list(rules) == list(POLICIES)
    for name, rule in rules.items():
        settings = rule["then"]["properties"]["settings"]
        assert set(settings["properties"]) == set(POLICIES[name].choices())
        assert settings["additionalProperties"] is False
    alpha = {"type": "number", "description": "finite and at least 0; utility per width", "default": 0.3}
    assert rules["LinUCB"]["then"]["properties"]["settings"]["properties"]["alpha"] == alpha
    unnamed = [name for name, rule in rules.items() if not rule["if"]["required"]]
    assert unnamed == [DEFAULT_POLICY]


def test_a_monitor_in_a_file_has_all_that_it_declares() -> None:
    shown = {name: setting.default for name, setting in DriftMonitor.declared.items()}
    assert msgspec.structs.asdict(MonitorSection()) == shown


def test_a_shown_configuration_makes_the_same_router(file: Path) -> None:
    config = load_config(file)
    assert msgspec.convert(msgspec.to_builtins(config), RouterConfig) == config


def test_every_kind_of_encoder_can_be_listed(tmp_path: Path) -> None:
    pytest.importorskip("wordllama")
    vectors = np.random.default_rng(0).normal(size=(40, 256))
    np.savez(tmp_path / "w.npz", **fit_pca(vectors, components=2).state())
    kinds = """context = [{kind = "bias"}, {kind = "task", tasks = ["a"]}, {kind = "features", dim = 2},
    {kind = "traits", tags = ["t"], modalities = ["image"]}, {kind = "text_complexity"},
    {kind = "embedding", whitening = "w.npz"}]
    arms = [{id = "a"}]"""
    encode = parse_toml(kinds, RouterConfig, name="r.toml").encoder(tmp_path)
    assert not isinstance(encode, int)
    assert encode.dim == 1 + 2 + 2 + 5 + 7 + 3
    assert encode(Request(text="hello", features=[1.0, 2.0])).shape == (20,)
    with pytest.raises(InvalidInput, match="no saved whitening"):
        parse_toml(kinds.replace("w.npz", "x.npz"), RouterConfig, name="r.toml").encoder(tmp_path)


@pytest.mark.parametrize(
    ("encoder", "said"),
    [
        ('{kind = "task", taks = ["a"]}', r"OneHotTask has no setting 'taks', did you mean 'tasks'\? it has tasks"),
        ('{kind = "features"}', "Precomputed needs dim"),
        ('{kind = "features", dim = 0}', "Precomputed: dim must be at least 1, got 0"),
        ('{kind = "traits", tags = [1]}', r"Traits: tags must be a list of words, got \[1\]"),
        ('{kind = "embeding"}', "unknown encoder 'embeding', did you mean 'embedding'"),
        ('{tasks = ["a"]}', "an encoder needs a kind; there are bias, task"),
    ],
)
def test_what_is_wrong_with_an_encoder_is_said_with_its_line(encoder: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=f"r.toml, line 2: context: {said}"):
        parse_toml(f'arms = [{{id = "a"}}]\ncontext = [{encoder}]', RouterConfig, name="r.toml")


def test_a_typo_in_an_encoder_has_the_same_sentence_in_python() -> None:
    with pytest.raises(InvalidInput, match=r"OneHotTask has no setting 'taks', did you mean 'tasks'\? it has tasks"):
        OneHotTask(**{"taks": ["a"]})


def test_the_schema_knows_what_each_encoder_takes() -> None:
    context = schema()["$defs"]["RouterConfig"]["properties"]["context"]["anyOf"]
    kinds = {each["properties"]["kind"]["const"]: each for each in context[1]["items"]["oneOf"]}
    assert list(kinds) == list(ENCODERS)
    assert kinds["task"]["required"] == ["kind", "tasks"]
    assert kinds["task"]["properties"]["tasks"]["items"] == {"type": "string"}


def test_a_router_takes_requests_only_with_an_encoder() -> None:
    arms = parse_toml('context = 1\narms = [{id = "a"}]', RouterConfig, name="r.toml")
    router = Router(**arms.arguments())
    with pytest.raises(InvalidInput, match="takes context vectors"):
        router.decide(Request(task="code"), event_id="e")
    assert router.counters["decided"] == 0
    router.decide([1.0], event_id="e")
    assert router.observe("e", Outcome(quality=1.0)).reward == 1.0


def test_a_request_brings_its_tenant_and_the_unit_of_its_holdout(file: Path) -> None:
    file.write_text(
        FULL.replace("holdout = 0.05", "holdout = 0.5").replace('name = "day"', 'name = "day"\ntenant = "*"')
    )
    router = Router.from_config(file)
    modes = {router.decide(Request(session="s", tenant="t"), event_id=str(n)).mode == "holdout" for n in range(20)}
    assert len(modes) == 1
    assert router.budgets is not None
    assert {row["account"] for row in router.budgets.report()} == {"day/t"}
