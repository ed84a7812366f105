"""What Prometheus reads: labels are arms, modes and refusals, never what a client sent."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from bandit_router.records.outcomes import Outcome
from bandit_router.routing.router import Router

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """Counters of one gateway, in a registry of its own.

    Args:
        router: its counters are exported beside those of the gateway.
    """

    def __init__(self, router: Router) -> None:
        self.registry = registry = CollectorRegistry()
        registry.register(_Counters(router))
        self.attempts = Counter(
            "bandit_router_attempts", "Attempts by how they ended", ["arm", "mode", "end"], registry=registry
        )
        self.refused = Counter("bandit_router_refused", "Requests refused, by status", ["status"], registry=registry)
        self.cost = Counter("bandit_router_cost_usd", "US dollars billed", ["arm"], registry=registry)
        self.tokens = Counter("bandit_router_tokens", "Tokens by kind", ["arm", "kind"], registry=registry)
        self.latency = Histogram(
            "bandit_router_latency_seconds", "To the end of the answer", ["arm"], buckets=SECONDS, registry=registry
        )
        self.ttft = Histogram(
            "bandit_router_ttft_seconds", "To the first byte", ["arm"], buckets=SECONDS, registry=registry
        )
        self.in_flight = Gauge("bandit_router_in_flight", "Attempts under way", ["arm"], registry=registry)
        self.feedback = Counter("bandit_router_feedback", "Feedback by what became of it", ["end"], registry=registry)

    def ended(self, arm: str, mode: str, end: str, outcome: Outcome, tokens: dict[str, int]) -> None:
        """Count one attempt: `end` is ok, failed, broken, left or refused."""
        self.attempts.labels(arm, mode, end).inc()
        self.cost.labels(arm).inc(outcome.cost_usd or 0.0)
        for kind, count in tokens.items():
            self.tokens.labels(arm, kind).inc(count)
        if end == "ok":
            self.latency.labels(arm).observe(outcome.latency_s or 0.0)
            self.ttft.labels(arm).observe(outcome.ttft_s or 0.0)

    def text(self) -> bytes:
        """The page."""
        return generate_latest(self.registry)


class _Counters(Collector):
    """The router's own counters, read when asked for."""

    def __init__(self, router: Router) -> None:
        self._router = router

    def collect(self) -> Iterable[CounterMetricFamily]:
        family = CounterMetricFamily("bandit_router_engine", "Counters of the engine", labels=["name"])
        for name, count in dict(self._router.counters).items():
            family.add_metric([name], count)
        yield family
