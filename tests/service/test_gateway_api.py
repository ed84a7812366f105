"""Feedback, decisions, keys and limits over HTTP."""

import hashlib

import openai
import pytest

from bandit_router import Budgets, Health, Objective, OneHotTask, Outcome, Rollout
from bandit_router.budgets.limits import Window
from bandit_router.service.config import KeySection
from support.gateway import ARMS, serving, until


def key(name, *scopes):
    return KeySection(name=name, sha256=hashlib.sha256(name.encode()).hexdigest(), scopes=scopes)


def test_feedback_settles_the_decision_once_and_knows_no_other():
    with serving(objective=Objective(prices={"cost_usd": 0.1})) as served:
        event = served.ask().id
        until(lambda: served.metric("bandit_router_attempts_total", end="ok") == 1)
        first = served.post("/v1/feedback", response_id=event, quality=0.75, comment="fine")
        assert first.status_code == 200
        assert served.router.policy.steps == 1
        assert served.post("/v1/feedback", response_id=event, quality=0.75).status_code == 409
        assert served.post("/v1/feedback", response_id="other", label="up").status_code == 404
        assert served.post("/v1/feedback", response_id=event).status_code == 400


def test_a_quality_out_of_range_is_refused_and_changes_nothing():
    with serving() as served:
        event = served.ask().id
        assert served.post("/v1/feedback", response_id=event, quality=7).status_code == 400
        assert served.post("/v1/feedback", response_id=event, quality=1).json()["reward"] == 1.0


def test_feedback_in_tensorzeros_names():
    with serving() as served:
        event = served.ask().id
        told = served.post("/v1/feedback", inference_id=event, metric_name="solved", value=True)
        assert told.json()["reward"] == 1.0


def test_a_loop_that_calls_the_models_itself_decides_and_observes():
    with serving(context=OneHotTask(tasks=["code"])) as served:
        drawn = served.post("/decide", event_id="e/1", task="code", eligible=["large"]).json()
        assert (drawn["arm"], drawn["propensity"]) == ("large", 1.0)
        assert served.router.events.find("e/1").context.tolist() == [1.0, 0.0]
        assert served.post("/observe", event_id="e/1", outcome={"quality": 0.5}).json()["reward"] == 0.5
        assert served.get("/explain/e/1").json()["chosen"] == "large"
        assert served.get("/explain/other").status_code == 404
        assert served.post("/decide", prompt="no").status_code == 400
        assert served.post("/decide", eligible=["huge"]).status_code == 400
        assert served.post("/observe", event_id="e/1", outcome={"joy": 1}).status_code == 400


def test_keys_have_scopes():
    keys = (key("user", "use"), key("rater", "feedback"), key("root", "admin"))
    with serving(gateway={"keys": keys}) as served:
        asked = {"model": "auto", "messages": [{"role": "user", "content": "Hello"}]}
        codes = {who: served.post("/v1/chat/completions", who, **asked).status_code for who in ("user", "rater", "x")}
        assert codes == {"user": 200, "rater": 403, "x": 401}
        assert served.post("/v1/feedback", "user", response_id="e", quality=1).status_code == 403
        codes = {who: served.get("/metrics", who).status_code for who in ("user", "root")}
        assert codes == {"user": 403, "root": 200}
        assert served.get("/readyz").json() == {"ready": True, "reasons": []}


def test_the_name_of_the_key_is_the_tenant():
    with serving(gateway={"keys": (key("secret", "use", "read"),)}) as served:
        assert served.router.events.find(served.ask().id).tenant == "secret"


def test_the_body_has_a_limit_and_must_be_a_chat():
    with serving(gateway={"body_bytes": 200}) as served:
        with pytest.raises(openai.APIStatusError) as caught:
            served.ask(user="u" * 300)
        assert caught.value.status_code == 413
        for body in ({"model": "auto"}, {"model": "auto", "messages": []}, {"messages": [1]}):
            assert served.post("/v1/chat/completions", **body).status_code in (400, 404)
        assert served.client._client.post(f"{served.url}/v1/feedback", content=b"[").json()["error"]["type"]


def test_a_spent_budget_says_which_and_until_when():
    spent = Budgets(
        limits=[Window(name="day", channel="cost_usd", total=1e-9, window_s=86400.0, hard=True)],
        expected={arm.id: Outcome(cost_usd=1e-3) for arm in ARMS},
    )
    with serving(budgets=spent) as served:
        with pytest.raises(openai.RateLimitError) as caught:
            served.ask()
        assert caught.value.code == "budget_exhausted"
        assert not any(fake.bodies for fake in served.fakes.values())


def test_not_ready_says_why():
    with serving() as served:
        for arm in ARMS:
            served.router.pause(arm.id)
        told = served.get("/readyz")
        assert (told.status_code, told.json()["reasons"]) == (503, ["no arm is active"])
        with pytest.raises(openai.InternalServerError, match="all are paused"):
            served.ask()


def test_a_full_arm_is_not_drawn():
    with serving(rollout=Rollout(mode="off", baseline="small"), health=Health(in_flight={"small": 1})) as served:
        served.fakes["small"].stall_after = 1
        with served.ask(stream=True) as stream:
            assert next(iter(stream)).model == "small"
            answer = served.ask()
            assert answer.model == "large"
            assert served.router.events.find(answer.id).eligible.tolist() == [False, True]
