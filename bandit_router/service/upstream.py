"""One upstream: its requests over one pooled connection, and what counts as its failure."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from bandit_router.records.arms import Arm
from bandit_router.records.failures import Failure
from bandit_router.service.config import UpstreamSection

CLIENTS_FAULT = (400, 413, 415, 422)  # the request is wrong, and would be at any other arm
_ERROR, _TIMEOUT, _BROKEN = Failure("error"), Failure("timeout"), Failure("broken_stream")


class Failed(Exception):
    """An attempt that brought no answer, or a part of one.

    Attributes:
        failure: what the router is told. status: the upstream's, None where it did not answer. body: what it said.
        clients: whether the request is wrong.
    """

    def __init__(
        self, message: str, failure: Failure = _ERROR, *, status: int | None = None, body: bytes = b""
    ) -> None:
        super().__init__(message)
        self.failure, self.status, self.body = failure, status, body
        self.clients = status in CLIENTS_FAULT


class Upstream:
    """An OpenAI-compatible endpoint that serves one arm.

    Args:
        arm: whose it is. section: where it is. session: the pooled client. folder: where a key's relative path starts.
    """

    def __init__(
        self, *, arm: Arm, section: UpstreamSection, session: aiohttp.ClientSession, folder: Path | None
    ) -> None:
        self.arm, self.section, self.session = arm, section, session
        self.url = section.base_url.rstrip("/") + "/chat/completions"
        self.headers = {"content-type": "application/json"}
        if section.api_key is not None:
            self.headers["authorization"] = "Bearer " + section.api_key.read(folder).decode()
        self.timeout = aiohttp.ClientTimeout(
            total=section.total_s, sock_connect=section.connect_s, sock_read=section.first_byte_s
        )

    async def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        """The whole answer. Raises Failed."""
        response = await self._open(body)
        try:
            return _object(await response.read())
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _broken(self.arm.id, error) from None
        finally:
            response.release()

    async def chunks(self, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """The chunks of a stream. Raises Failed where it does not begin, breaks, or stops before it is finished."""
        asked = dict(body.get("stream_options") or {}) | {"include_usage": True}
        if self.section.continuous_usage:
            asked["continuous_usage_stats"] = True
        response = await self._open(body | {"stream": True, "stream_options": asked})
        finished = False
        try:
            async for line in _lines(response):
                if not line.startswith(b"data:"):
                    continue
                data = line[5:].strip()
                if data == b"[DONE]":
                    return
                chunk = _object(data)
                if "error" in chunk:
                    raise Failed(f"{self.arm.id} reported an error in its stream", _BROKEN)
                finished = finished or _finishes(chunk)
                yield chunk
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _broken(self.arm.id, error) from None
        finally:
            response.close()  # where the client has left, the upstream stops generating
        if not finished:
            raise Failed(f"{self.arm.id} ended its stream before it was finished", _BROKEN)

    async def _open(self, body: dict[str, Any]) -> aiohttp.ClientResponse:
        sent = msgspec.json.encode(body | {"model": self.section.model or self.arm.id})
        try:
            response = await self.session.post(self.url, data=sent, headers=self.headers, timeout=self.timeout)
            if response.status < 400:
                return response
            said = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            kind = _TIMEOUT if isinstance(error, TimeoutError) else _ERROR
            raise Failed(f"{self.arm.id} cannot be reached: {type(error).__name__}", kind) from None
        message = f"{self.arm.id} answered {response.status}"
        raise Failed(message, _failure(response), status=response.status, body=said)


def _failure(response: aiohttp.ClientResponse) -> Failure:
    wait = response.headers.get("retry-after", "")
    seconds = float(wait) if wait.isdecimal() and len(wait) < 7 else None
    return Failure("rate_limit" if response.status == 429 else "error", seconds)


def _broken(arm: str, error: Exception) -> Failed:
    timed_out = isinstance(error, TimeoutError)
    return Failed(f"{arm} broke off: {type(error).__name__}", _TIMEOUT if timed_out else _BROKEN)


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Lines of any length."""
    rest = b""
    async for part in response.content.iter_any():
        *whole, rest = (rest + part).split(b"\n")
        for line in whole:
            yield line
    if rest:
        yield rest


def _object(data: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(data)
    except msgspec.DecodeError:
        found = None
    if not isinstance(found, dict):
        raise Failed("the upstream sent no JSON object")
    return found


def _finishes(chunk: dict[str, Any]) -> bool:
    choices = chunk.get("choices")
    return isinstance(choices, list) and any(isinstance(c, dict) and c.get("finish_reason") for c in choices)
