"""What one answer cost: tokens from the upstream's usage, money from the prices of the arm."""

from __future__ import annotations

import time
from typing import Any

from bandit_router.records.arms import Arm
from bandit_router.records.outcomes import Outcome
from bandit_router.service.config import UpstreamSection


class Meter:
    """The tokens, the money and the time of one attempt.

    Where the upstream never said its usage, a stream is counted by its chunks, one token each, and by the prompt's
    estimated length.

    Args:
        arm: has the prices. section: has the price of cached tokens. prompt_tokens: estimate for the prompt.
    """

    def __init__(self, arm: Arm, section: UpstreamSection, prompt_tokens: int) -> None:
        self.arm, self.section, self.prompt_tokens = arm, section, prompt_tokens
        self.usage: dict[str, Any] | None = None
        self.chunks = 0
        self.begun_s = time.perf_counter()
        self.first_s: float | None = None
        self.last_s: float | None = None

    def saw(self, document: dict[str, Any]) -> None:
        """Count one chunk of a stream, or a whole answer."""
        self.last_s = time.perf_counter() - self.begun_s
        if self.first_s is None:
            self.first_s = self.last_s
        if isinstance(usage := document.get("usage"), dict):
            self.usage = usage
        if _speaks(document):
            self.chunks += 1

    def tokens(self) -> dict[str, int]:
        """Tokens by kind: prompt, cached (of the prompt), completion, reasoning (of the completion)."""
        usage = self.usage
        if usage is None:
            begun = self.chunks > 0
            return {"prompt": self.prompt_tokens * begun, "cached": 0, "completion": self.chunks, "reasoning": 0}
        prompt = _count(usage, "prompt_tokens")
        completion = _count(usage, "completion_tokens")
        return {
            "prompt": prompt,
            "cached": min(prompt, _count(usage.get("prompt_tokens_details"), "cached_tokens")),
            "completion": completion,
            "reasoning": min(completion, _count(usage.get("completion_tokens_details"), "reasoning_tokens")),
        }

    def cost_usd(self) -> float:
        """What these tokens are billed at, in US dollars; an arm without prices is free."""
        counts = self.tokens()
        price = self.arm.input_usd_per_mtok or 0.0
        cached = self.section.cached_usd_per_mtok
        return (
            (counts["prompt"] - counts["cached"]) * price
            + counts["cached"] * (price if cached is None else cached)
            + counts["completion"] * (self.arm.output_usd_per_mtok or 0.0)
        ) / 1e6

    def outcome(self) -> Outcome:
        """What was metered so far."""
        now_s = time.perf_counter() - self.begun_s
        counts = self.tokens()
        known = self.usage is not None or self.chunks > 0 or self.first_s is None  # without an answer it is nothing
        return Outcome(
            cost_usd=self.cost_usd() if known else None,
            tokens=float(counts["prompt"] + counts["completion"]) if known else None,
            latency_s=now_s if self.last_s is None else self.last_s,
            ttft_s=now_s if self.first_s is None else self.first_s,
        )


def _speaks(document: dict[str, Any]) -> bool:
    """Whether a chunk carries anything generated."""
    choices = document.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    delta = choice.get("delta") if isinstance(choice, dict) else None
    return isinstance(delta, dict) and any(delta.get(name) for name in ("content", "tool_calls", "reasoning_content"))


def _count(usage: Any, name: str) -> int:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and value > 0 else 0
