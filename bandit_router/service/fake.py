"""A made-up upstream, for the demo and the tests: it answers in OpenAI's protocol and keeps its own bill."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from bandit_router.service.replies import error_body, reply


class FakeUpstream:
    """One model that says its own name, word by word.

    Attributes:
        name: what it says. words: how many tokens an answer has. delay_s: before each token.
        prompt_tokens, cached_tokens: what it counts for any prompt.
        status: what it answers instead, where it is not 200. break_after, stall_after: tokens after which a stream
            breaks, or waits until the client has left; default never.
        usage: whether it says what it bills.
        usages: every request's usage, as it bills it. bodies: every request. left: streams whose client has left.
    """

    def __init__(self, name: str, *, words: int = 5, delay_s: float = 0.0) -> None:
        self.name, self.words, self.delay_s = name, words, delay_s
        self.prompt_tokens, self.cached_tokens = 20, 8
        self.status, self.usage = 200, True
        self.break_after: int | None = None
        self.stall_after: int | None = None
        self.usages: list[dict[str, Any]] = []
        self.bodies: list[dict[str, Any]] = []
        self.left = 0

    def app(self) -> Starlette:
        """Its endpoint."""
        return Starlette(routes=[Route("/v1/chat/completions", self._complete, methods=["POST"])])

    async def _complete(self, request: Request) -> Response:
        body = msgspec.json.decode(await request.body())
        self.bodies.append(body)
        if self.status != 200:
            return reply(error_body(f"{self.name} says {self.status}", "made_up", None), self.status)
        if body.get("stream"):
            return StreamingResponse(self._stream(body.get("stream_options") or {}), media_type="text/event-stream")
        await asyncio.sleep(self.delay_s * self.words)
        self.usages.append(self._usage(self.words))
        message: dict[str, Any] = {"role": "assistant", "content": " ".join([self.name] * self.words)}
        if body.get("tools"):
            call = {"name": body["tools"][0]["function"]["name"], "arguments": "{}"}
            message = {"role": "assistant", "content": None}
            message["tool_calls"] = [{"id": "call_1", "type": "function", "function": call}]
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if body.get("tools") else "stop"}
        document = self._document("chat.completion", [choice])
        return reply(document | {"usage": self._usage(self.words)} if self.usage else document)

    async def _stream(self, options: dict[str, Any]) -> AsyncIterator[bytes]:
        usage = self._usage(0)
        self.usages.append(usage)
        for number in range(self.words):
            if number == self.break_after:
                raise ConnectionResetError("made up")
            if number == self.stall_after:
                try:
                    await asyncio.Event().wait()
                finally:
                    self.left += 1
            await asyncio.sleep(self.delay_s)
            usage.update(self._usage(number + 1))
            delta = {"index": 0, "delta": {"role": "assistant", "content": self.name}, "finish_reason": None}
            more = {"usage": dict(usage)} if self.usage and options.get("continuous_usage_stats") else {}
            yield _event(self._document("chat.completion.chunk", [delta]) | more)
        end = {"index": 0, "delta": {}, "finish_reason": "stop"}
        yield _event(self._document("chat.completion.chunk", [end]))
        if self.usage and options.get("include_usage"):
            yield _event(self._document("chat.completion.chunk", []) | {"usage": usage})
        yield b"data: [DONE]\n\n"

    def _document(self, kind: str, choices: list[Any]) -> dict[str, Any]:
        return {"id": "upstreams-own", "object": kind, "created": 0, "model": self.name, "choices": choices}

    def _usage(self, completion: int) -> dict[str, Any]:
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": completion,
            "total_tokens": self.prompt_tokens + completion,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
        }


def _event(document: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(document) + b"\n\n"
