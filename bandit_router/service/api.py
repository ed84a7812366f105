"""The other endpoints: models, feedback, decisions for loops that call models themselves, explanations, health."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.requests import Request as HTTPRequest
from starlette.responses import Response
from starlette.routing import Route

from bandit_router.encoding.contexts import Request
from bandit_router.errors import InvalidInput
from bandit_router.records.decisions import Settlement
from bandit_router.records.outcomes import Outcome
from bandit_router.routing.router import Router
from bandit_router.service.config import GatewaySection, Scope
from bandit_router.service.keys import Keys
from bandit_router.service.metrics import Metrics
from bandit_router.service.replies import invalid, refused, reply
from bandit_router.service.requests import read_object

LABELS = {"up": 1.0, "good": 1.0, "down": 0.0, "bad": 0.0}
STATUS = {"unknown": 404, "duplicate": 409, "invalid": 400, "out_of_range": 400, "unavailable": 503}


class Api:
    """The endpoints over a router; see `Chat` for the arguments."""

    def __init__(self, *, router: Router, section: GatewaySection, keys: Keys, metrics: Metrics) -> None:
        self.router, self.section, self.keys, self.metrics = router, section, keys, metrics

    def routes(self) -> list[Route]:
        """Their paths."""
        return [
            Route("/v1/models", self._guarded("use", self.models)),
            Route("/v1/feedback", self._guarded("feedback", self.feedback), methods=["POST"]),
            Route("/decide", self._guarded("use", self.decide), methods=["POST"]),
            Route("/observe", self._guarded("feedback", self.observe), methods=["POST"]),
            Route("/explain/{event:path}", self._guarded("read", self.explain)),
            Route("/metrics", self._guarded("read", self.page)),
            Route("/healthz", self.healthz),
            Route("/readyz", self.readyz),
        ]

    def _guarded(
        self, scope: Scope, answer: Callable[[HTTPRequest, str | None], Awaitable[Response]]
    ) -> Callable[[HTTPRequest], Awaitable[Response]]:
        async def endpoint(request: HTTPRequest) -> Response:
            try:
                return await answer(request, self.keys.check(request.headers, scope))
            except Exception as error:
                found = refused(error)
                if found.status == 500:
                    raise
                return found.response()

        return endpoint

    async def models(self, request: HTTPRequest, key: str | None) -> Response:
        """The route and the arms."""
        ids = [self.section.route, *self.section.upstreams]
        listed = [{"id": name, "object": "model", "created": 0, "owned_by": "bandit-router"} for name in ids]
        return reply({"object": "list", "data": listed})

    async def feedback(self, request: HTTPRequest, key: str | None) -> Response:
        """How good an answer was, by its response id; also in TensorZero's names."""
        body = await read_object(request, self.section.body_bytes)
        event_id = body.get("response_id", body.get("inference_id"))
        quality = body.get("quality", body.get("value", body.get("label")))
        quality = LABELS.get(quality, quality) if isinstance(quality, str) else quality
        if not isinstance(event_id, str) or not isinstance(quality, bool | int | float):
            raise invalid(f"feedback needs response_id, and quality from 0 to 1 or a label of {', '.join(LABELS)}")
        reward_id = body.get("reward_id", body.get("metric_name"))
        return await self._observe(event_id, Outcome(quality=float(quality)), _text("reward_id", reward_id), key)

    async def observe(self, request: HTTPRequest, key: str | None) -> Response:
        """An outcome of any channels."""
        body = await read_object(request, self.section.body_bytes)
        try:
            outcome = msgspec.convert(body.get("outcome"), Outcome)
        except msgspec.ValidationError as error:
            raise invalid(f"outcome: {error}") from None
        event_id = _text("event_id", body.get("event_id"))
        if event_id is None:
            raise invalid("observe needs event_id and outcome")
        served = _text("served_arm", body.get("served_arm"))
        return await self._observe(event_id, outcome, _text("reward_id", body.get("reward_id")), key, served)

    async def _observe(
        self, event_id: str, outcome: Outcome, reward_id: str | None, key: str | None, served: str | None = None
    ) -> Response:
        settled = await self.router.aobserve(event_id, outcome, reward_id=reward_id, served_arm=served, source=key)
        self.metrics.feedback.labels(settled.refused or "accepted").inc()
        return reply(_told(settled), STATUS.get(settled.refused or "", 200))

    async def decide(self, request: HTTPRequest, key: str | None) -> Response:
        """A draw for a loop that calls the models itself."""
        body = await read_object(request, self.section.body_bytes)
        event_id = _text("event_id", body.pop("event_id", None)) or uuid.uuid4().hex
        eligible = body.pop("eligible", None)
        if not (eligible is None or (isinstance(eligible, list) and all(isinstance(arm, str) for arm in eligible))):
            raise invalid("eligible must be a list of arm ids")
        names = ("task", "text", "features", "tags", "session", "modalities", "tools", "tokens")
        odd = sorted(set(body) - set(names))
        if odd:
            raise invalid(f"decide takes no {odd[0]!r:.60}; it takes event_id, eligible, {', '.join(names)}")
        try:
            asked = Request(**{"tenant": key} | body)
        except TypeError as error:
            raise InvalidInput(str(error)) from None
        decision = await self.router.adecide(asked, event_id=event_id, eligible=eligible)
        told = ("event_id", "arm", "propensity", "mode", "degraded", "state_version")
        return reply({name: getattr(decision, name) for name in told})

    async def explain(self, request: HTTPRequest, key: str | None) -> Response:
        """Why a decision went as it did."""
        event_id = request.path_params["event"]
        try:
            return reply(await asyncio.to_thread(self.router.explain, event_id))
        except InvalidInput as error:
            raise invalid(str(error), status=404) from None

    async def page(self, request: HTTPRequest, key: str | None) -> Response:
        """For Prometheus."""
        return Response(self.metrics.text(), media_type="text/plain; version=0.0.4")

    async def healthz(self, request: HTTPRequest) -> Response:
        """Alive."""
        return reply({"status": "ok"})

    async def readyz(self, request: HTTPRequest) -> Response:
        """Whether requests can be served and learned from, else why not."""
        reasons = []
        if self.router.closed:
            reasons.append("the router is closed")
        if not self.router.healthy:
            reasons.append("the store cannot be reached")
        if not self.router.catalogue.active().any():
            reasons.append("no arm is active")
        return reply({"ready": not reasons, "reasons": reasons}, 503 if reasons else 200)


def _told(settled: Settlement) -> dict[str, Any]:
    return {
        "event_id": settled.event_id,
        "arm": settled.arm,
        "reward": settled.reward,
        "pending": settled.pending,
        "refused": settled.refused,
    }


def _text(name: str, value: Any) -> str | None:
    if not (value is None or isinstance(value, str)):
        raise invalid(f"{name} must be text")
    return value
