"""`/v1/chat/completions`: each attempt is a decision of the router, and what it cost is its outcome."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any

import msgspec
from starlette.requests import Request as HTTPRequest
from starlette.types import Receive, Send
from starlette.types import Scope as ASGIScope

from bandit_router.encoding.contexts import Request
from bandit_router.records.decisions import Decision
from bandit_router.records.failures import Failure
from bandit_router.routing.router import Router
from bandit_router.service.config import GatewaySection
from bandit_router.service.keys import Keys
from bandit_router.service.metering import Meter
from bandit_router.service.metrics import Metrics
from bandit_router.service.replies import Refused, error_body, invalid, nobody, refused
from bandit_router.service.requests import described, read_object
from bandit_router.service.upstream import Failed, Upstream

_log = logging.getLogger(__name__)


class Call:
    """One request of a client on its way.

    Attributes:
        id: of its first attempt's event. body: as sent. request: as the router sees it. named: the arm that the client
            chose itself, None where one is drawn. answered: whether anything, and `complete`, all was sent.
    """

    def __init__(self, *, body: dict[str, Any], request: Request, named: str | None, send: Send) -> None:
        self.id = f"chatcmpl-{uuid.uuid4().hex}"
        self.body, self.request, self.named, self._send = body, request, named, send
        self.streams = body.get("stream") is True
        options = body.get("stream_options")
        self.wants_usage = isinstance(options, dict) and options.get("include_usage") is True
        self.answered = self.complete = False

    async def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """Send the status; from here on no other arm can answer."""
        self.answered = True
        raw = [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": raw})

    async def write(self, data: bytes, *, last: bool = False) -> None:
        """Send a part of the body."""
        self.complete = self.complete or last
        await self._send({"type": "http.response.body", "body": data, "more_body": not last})


class Chat:
    """The endpoint, as an ASGI application.

    Args:
        router: decides and learns. section: the configuration. upstreams: by arm id. keys, metrics: of this gateway.
    """

    def __init__(
        self, *, router: Router, section: GatewaySection, upstreams: dict[str, Upstream], keys: Keys, metrics: Metrics
    ) -> None:
        self.router, self.section, self.upstreams = router, section, upstreams
        self.keys, self.metrics = keys, metrics

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        """Answer, and stop as soon as the client has left."""
        request = HTTPRequest(scope, receive)
        call = None
        try:
            tenant = self.keys.check(request.headers, "use")
            body = await read_object(request, self.section.body_bytes)
            call = self._call(body, request.headers, tenant, send)
            await _while_there(self._serve(call), call, receive)
        except Exception as error:
            if call is not None and call.answered:
                raise
            answer = refused(error)
            if answer.status == 500:
                _log.error("a request failed: %s", type(error).__name__, exc_info=error)
            self.metrics.refused.labels(str(answer.status)).inc()
            await answer.response()(scope, receive, send)

    def _call(self, body: dict[str, Any], headers: Mapping[str, str], tenant: str | None, send: Send) -> Call:
        model = body.get("model")
        if model != self.section.route and model not in self.upstreams:
            known = ", ".join([self.section.route, *self.upstreams])
            raise invalid(f"there is no model {model!r:.80}; there are {known}", status=404, code="model_not_found")
        named = None if model == self.section.route else model
        return Call(body=body, request=described(body, headers, tenant), named=named, send=send)

    async def _serve(self, call: Call) -> None:
        """Try arms until one answers."""
        tried: list[str] = []
        failure: Failed | None = None
        for number in range(1, self.section.attempts + 1):
            arms = self._untried(call, tried)
            if not arms:
                break
            event_id = call.id if number == 1 else f"{call.id}#{number}"
            some = call.named is not None or len(arms) < len(self.upstreams)
            decision = await self.router.adecide(
                call.request, event_id=event_id, eligible=arms if some else None, drawn=call.named is None
            )
            tried.append(decision.arm)
            try:
                await self._attempt(call, decision, number)
                return
            except Failed as failed:
                failure = failed
                if failed.clients:
                    break
        raise _gave_up(failure)

    def _untried(self, call: Call, tried: list[str]) -> list[str]:
        """Arms that may be drawn; which of them are healthy and have room, the router knows."""
        catalogue = self.router.catalogue
        active = [arm.id for arm, on in zip(catalogue, catalogue.active(), strict=True) if on]
        wanted = [call.named] if call.named is not None else [arm for arm in active if arm in self.upstreams]
        return [arm for arm in wanted if arm in active and arm not in tried]

    async def _attempt(self, call: Call, decision: Decision, number: int) -> None:
        """Serve by the decided arm, and report what became of it. Raises Failed before anything was sent."""
        upstream = self.upstreams[decision.arm]
        meter = Meter(upstream.arm, upstream.section, call.request.tokens or 0)
        headers = _headers(call, decision, number)
        self.metrics.in_flight.labels(decision.arm).inc()
        end, failure = "ok", None
        try:
            await (self._stream if call.streams else self._whole)(call, decision, upstream, meter, headers)
        except Failed as failed:
            end = "refused" if failed.clients else "broken" if call.answered else "failed"
            failure = None if failed.clients else failed.failure
            if not call.answered:
                raise
            broken = error_body(str(failed), "server_error", "stream_broken")
            await call.write(b"data: " + msgspec.json.encode(broken) + b"\n\n", last=True)
        except asyncio.CancelledError:
            end, failure = "left", Failure("cancelled")
            raise
        finally:
            self.metrics.in_flight.labels(decision.arm).dec()
            outcome, mode = meter.outcome(), _mode(call, decision)
            self.metrics.ended(decision.arm, mode, end, outcome, meter.tokens())
            await self.router.aobserve(decision.event_id, outcome, reward_id="served", failure=failure)

    async def _whole(
        self, call: Call, decision: Decision, upstream: Upstream, meter: Meter, headers: dict[str, str]
    ) -> None:
        document = await upstream.answer(call.body)
        meter.saw(document)
        body = msgspec.json.encode(document | {"id": decision.event_id, "model": decision.arm})
        await call.begin(200, headers | {"content-type": "application/json", "content-length": str(len(body))})
        await call.write(body, last=True)

    async def _stream(
        self, call: Call, decision: Decision, upstream: Upstream, meter: Meter, headers: dict[str, str]
    ) -> None:
        async with aclosing(upstream.chunks(call.body)) as chunks:
            async for chunk in chunks:
                meter.saw(chunk)
                if not call.answered:
                    await call.begin(200, headers | {"content-type": "text/event-stream", "cache-control": "no-cache"})
                if not call.wants_usage:
                    usage = chunk.pop("usage", None)
                    if usage is not None and not chunk.get("choices"):
                        continue  # sent because we asked; simple clients take choices[0]
                named = chunk | {"id": decision.event_id, "model": decision.arm}
                await call.write(b"data: " + msgspec.json.encode(named) + b"\n\n")
        if not call.answered:
            raise Failed(f"{decision.arm} sent an empty stream")
        await call.write(b"data: [DONE]\n\n", last=True)


async def _while_there(work: Any, call: Call, receive: Receive) -> None:
    """Run `work` to its end, or until the client leaves: then it is cancelled, and may still report."""
    serving, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_left(receive))
    try:
        await asyncio.wait({serving, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not serving.done() and not call.complete:
            serving.cancel()
        await serving
    except asyncio.CancelledError:
        if not serving.cancelled():
            raise
    finally:
        leaving.cancel()


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _mode(call: Call, decision: Decision) -> str:
    return "named" if call.named is not None else decision.mode


def _headers(call: Call, decision: Decision, number: int) -> dict[str, str]:
    return {
        "x-request-id": decision.event_id,
        "x-bandit-event-id": decision.event_id,
        "x-bandit-arm": decision.arm,
        "x-bandit-propensity": repr(decision.propensity),
        "x-bandit-attempt": str(number),
        "x-bandit-mode": _mode(call, decision),
        "x-accel-buffering": "no",
    }


def _gave_up(failure: Failed | None) -> Exception:
    """What a client is told when no arm answered."""
    if failure is None:
        return nobody("no arm can serve now: all are paused")
    if failure.clients:
        return _Passed(failure)
    return nobody(f"no arm answered; the last attempt: {failure}")


class _Passed(Refused):
    """The upstream's own word on a request that is wrong."""

    def __init__(self, failure: Failed) -> None:
        try:
            said = msgspec.json.decode(failure.body)["error"]["message"]
        except (msgspec.DecodeError, KeyError, TypeError):
            said = str(failure)
        super().__init__(failure.status or 400, str(said), kind="invalid_request_error")
