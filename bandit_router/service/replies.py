"""Answers and errors in the shape that clients of OpenAI read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.responses import Response

from bandit_router.errors import BudgetExhausted, InvalidInput, NoArmAvailable, StoreUnavailable


class Refused(Exception):
    """A request that ends with an error of its own.

    Attributes:
        status: of HTTP. kind, code: the error's `type` and `code`. headers: more of the response's.
    """

    def __init__(
        self, status: int, message: str, *, kind: str, code: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.kind, self.code, self.headers = status, kind, code, dict(headers or {})

    def response(self) -> Response:
        """The answer of HTTP."""
        return reply(error_body(str(self), self.kind, self.code), self.status, self.headers)


def error_body(message: str, kind: str, code: str | None = None) -> dict[str, Any]:
    """An error as OpenAI's clients read it."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def reply(document: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON document."""
    return Response(msgspec.json.encode(document), status, dict(headers or {}), "application/json")


def invalid(message: str, status: int = 400, code: str | None = None) -> Refused:
    """The client sent something unusable."""
    return Refused(status, message, kind="invalid_request_error", code=code)


def nobody(message: str) -> Refused:
    """No arm can serve now."""
    return Refused(503, message, kind="server_error", code="no_arm", headers={"x-should-retry": "false"})


def refused(error: Exception) -> Refused:
    """What an error of the engine is to a client."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, BudgetExhausted):
        seconds = None if error.resets_s is None else str(max(1, math.ceil(error.resets_s)))
        headers = {"x-should-retry": "false"} if seconds is None else {"retry-after": seconds}
        headers |= {} if error.limit is None else {"x-bandit-limit": error.limit}
        return Refused(429, str(error), kind="insufficient_quota", code="budget_exhausted", headers=headers)
    if isinstance(error, NoArmAvailable):
        headers = {"retry-after": str(max(1, math.ceil(error.retry_after_s)))}
        return Refused(503, str(error), kind="server_error", code="no_arm", headers=headers)
    if isinstance(error, InvalidInput):
        return invalid(str(error))
    if isinstance(error, StoreUnavailable):
        return Refused(503, str(error), kind="server_error", code="store_unavailable")
    return Refused(500, "the gateway failed; its log says why", kind="server_error")
