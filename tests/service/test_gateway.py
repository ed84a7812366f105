"""The gateway, asked by OpenAI's own client."""

import openai
import pytest

from bandit_router import Objective, PolicySpec, Rollout
from support.gateway import ARMS, bill, serving, until

FIRST = PolicySpec(name="Fixed", settings={"arm": 0})
ONLY_SMALL = {"rollout": Rollout(mode="off", baseline="small")}


def test_an_answer_carries_the_event_and_the_arm():
    with serving() as served:
        raw = served.ask_raw(extra_body={"frob": 1})
        answer = raw.parse()
        decision = served.router.events.find(answer.id)
        assert answer.model == decision.arm
        assert raw.headers["x-bandit-event-id"] == raw.headers["x-request-id"] == answer.id
        assert float(raw.headers["x-bandit-propensity"]) == decision.propensity
        assert raw.headers["x-bandit-mode"] == "online"
        assert served.fakes[decision.arm].bodies[0]["frob"] == 1


def test_a_stream_has_one_id_and_no_usage_that_was_not_asked_for():
    with serving() as served:
        chunks = list(served.ask(stream=True))
        assert len({chunk.id for chunk in chunks}) == 1
        assert served.router.events.find(chunks[0].id).arm == chunks[0].model
        assert all(chunk.choices and chunk.usage is None for chunk in chunks)
        asked = list(served.ask(stream=True, stream_options={"include_usage": True}))
        assert asked[-1].usage.completion_tokens == 5


def test_tools_pass_through():
    tool = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
    with serving() as served:
        answer = served.ask(tools=[tool])
        assert answer.choices[0].message.tool_calls[0].function.name == "look_up"


def test_a_named_arm_is_on_record_and_not_learned():
    with serving() as served:
        raw = served.ask_raw(model="large")
        event = raw.parse().id
        assert raw.headers["x-bandit-mode"] == "named"
        decision = served.router.events.find(event)
        assert (decision.arm, decision.degraded, decision.learnable) == ("large", True, False)
        until(lambda: served.billed("large") > 0)
        assert served.router.policy.steps == 0


def test_the_models_are_the_route_and_the_arms():
    with serving() as served:
        assert [model.id for model in served.client.models.list()] == ["auto", "small", "large"]


def test_an_unknown_model_is_an_error_of_the_client():
    with serving() as served, pytest.raises(openai.NotFoundError, match="there are auto, small, large"):
        served.ask(model="huge")


def test_what_the_upstream_finds_wrong_is_passed_on_and_not_tried_again():
    with serving(**ONLY_SMALL) as served:
        served.fakes["small"].status = 400
        with pytest.raises(openai.BadRequestError, match="small says 400"):
            served.ask()
        assert not served.fakes["large"].bodies


@pytest.mark.parametrize("streams", [False, True])
def test_a_dead_arm_is_replaced_by_one_not_yet_tried(streams):
    with serving() as served:
        served.fakes["small"].status = 503
        for _ in range(40):
            raw = served.ask_raw(stream=streams)
            answer = next(iter(raw.parse())) if streams else raw.parse()
            assert answer.model == "large"
            if raw.headers["x-bandit-attempt"] == "2":
                first, second = answer.id.removesuffix("#2"), served.router.events.find(answer.id)
                assert served.router.events.find(first).arm == "small"
                assert second.eligible.tolist() == [False, True]
                assert answer.id.endswith("#2")
        small = len(served.fakes["small"].bodies)
        assert small > 0
        until(lambda: served.metric("bandit_router_attempts_total", arm="large", end="ok") == 40)
        assert served.metric("bandit_router_attempts_total", arm="small", end="failed") == small
        assert served.router.policy.steps == small  # each failure is learned at once, a success awaits its feedback


def test_nobody_can_serve_is_503():
    with serving() as served:
        for fake in served.fakes.values():
            fake.status = 500
        with pytest.raises(openai.InternalServerError, match="no arm answered") as caught:
            served.ask()
        assert caught.value.status_code == 503
        assert sum(len(fake.bodies) for fake in served.fakes.values()) == 2


def test_the_bill_is_the_upstreams():
    with serving(**ONLY_SMALL) as served:
        fake = served.fakes["small"]
        served.ask()
        list(served.ask(stream=True))
        fake.break_after = 3
        with pytest.raises(openai.APIError, match="broke off"):
            list(served.ask(stream=True))
        fake.break_after, fake.stall_after = None, 2
        with served.ask(stream=True) as stream:
            next(iter(stream))
            next(iter(stream))
        until(lambda: fake.left == 1)
        until(lambda: served.metric("bandit_router_attempts_total", end="left") == 1)
        assert [usage["completion_tokens"] for usage in fake.usages] == [5, 5, 3, 2]
        assert served.billed("small") == pytest.approx(bill(ARMS[0], fake.usages), rel=1e-12)
        assert served.metric("bandit_router_attempts_total", end="broken") == 1


@pytest.mark.parametrize("streams", [False, True])
def test_an_arm_that_is_too_slow_is_replaced(streams):
    with serving(policy=FIRST, upstream={"first_byte_s": 0.3}) as served:
        served.fakes["small"].delay_s = 60.0
        answer = served.ask(stream=streams)
        assert (next(iter(answer)) if streams else answer).model == "large"
        until(lambda: served.metric("bandit_router_attempts_total", arm="small", end="failed") == 1)


def test_a_dead_address_is_replaced():
    with serving(policy=FIRST, urls={"small": "http://127.0.0.1:1"}) as served:
        assert served.ask().model == "large"


def test_a_client_that_leaves_before_the_answer_cancels_the_upstream():
    with serving(policy=FIRST) as served:
        served.fakes["small"].delay_s = 60.0
        with pytest.raises(openai.APITimeoutError):
            served.ask(timeout=0.3)
        until(lambda: served.metric("bandit_router_attempts_total", arm="small", end="left") == 1)
        assert served.router.policy.steps == 0
        assert served.metric("bandit_router_in_flight") == 0


def test_an_answer_without_usage_is_not_called_free():
    with serving(policy=FIRST, objective=Objective(prices={"cost_usd": 0.1})) as served:
        served.fakes["small"].usage = False
        event = served.ask().id
        until(lambda: served.metric("bandit_router_attempts_total", end="ok") == 1)
        assert served.post("/v1/feedback", response_id=event, quality=1).json()["pending"]


def test_a_stream_without_usage_is_counted_by_its_chunks():
    with serving(policy=FIRST) as served:
        served.fakes["small"].usage = False
        list(served.ask(stream=True))
        until(lambda: served.metric("bandit_router_attempts_total", end="ok") == 1)
        assert served.metric("bandit_router_tokens_total", kind="completion") == 5
