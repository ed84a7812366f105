"""What a client sent: the body within its limit, and what the router is told of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.requests import Request as HTTPRequest

from bandit_router.encoding.contexts import Request
from bandit_router.errors import InvalidInput
from bandit_router.service.replies import invalid

CHARACTERS_PER_TOKEN = 4  # of English text, roughly; an estimate until the upstream has counted


async def read_object(request: HTTPRequest, limit: int) -> dict[str, Any]:
    """The body as a JSON object. Raises Refused where it is longer than `limit` bytes, or something else."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > limit:
            raise invalid(f"the body is longer than {limit} bytes", status=413)
    try:
        document = msgspec.json.decode(bytes(body))
    except (msgspec.DecodeError, RecursionError):
        raise invalid("the body is not JSON") from None
    if not isinstance(document, dict):
        raise invalid("the body must be a JSON object")
    return document


def described(body: Mapping[str, Any], headers: Mapping[str, str], tenant: str | None) -> Request:
    """A chat request as the router's encoder sees it; raises Refused where a label is no text.

    The task is the header `x-task` or `metadata.task`, the session `x-session`, `metadata.session` or `user`, the text
    that of the last message of the user.
    """
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise invalid("messages must be a list of at least one message")
    metadata = body.get("metadata")
    labels = metadata if isinstance(metadata, dict) else {}
    texts = [(_role(message), *_content(message)) for message in messages]
    asked = [text for role, text, _ in texts if role == "user"]
    tools = body.get("tools")
    try:
        return Request(
            task=headers.get("x-task") or labels.get("task"),
            text=asked[-1] if asked else None,
            session=headers.get("x-session") or labels.get("session") or body.get("user"),
            tenant=tenant,
            modalities=tuple(sorted({kind for _, _, kinds in texts for kind in kinds})),
            tools=len(tools) if isinstance(tools, list) else 0,
            tokens=sum(len(text) for _, text, _ in texts) // CHARACTERS_PER_TOKEN,
        )
    except InvalidInput as error:
        raise invalid(str(error)) from None


def _role(message: Any) -> Any:
    return message.get("role") if isinstance(message, dict) else None


def _content(message: Any) -> tuple[str, set[str]]:
    """Text of a message, and what else it holds: "image" for a part of type `image_url`."""
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, str):
        return content, set()
    parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    text = "\n".join(part["text"] for part in parts if isinstance(part.get("text"), str))
    kinds = {str(part["type"]).partition("_")[0] for part in parts if part.get("type") not in (None, "text")}
    return text, kinds
