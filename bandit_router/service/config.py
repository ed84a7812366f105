"""The section `[gateway]` beside a router's: where it listens, and which upstream serves which arm."""

from __future__ import annotations

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal

import msgspec

from bandit_router.declared import NOT_NEGATIVE, POSITIVE
from bandit_router.errors import InvalidInput
from bandit_router.routing.config import RouterConfig, Secret
from bandit_router.routing.config import schema as described
from bandit_router.toml_files import load_toml

Scope = Literal["use", "feedback", "read", "admin"]


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file: a name that is not there is refused."""


class UpstreamSection(_Section, frozen=True):
    """One OpenAI-compatible endpoint, which serves one arm.

    Prices of input and output are the arm's; how many calls it takes at one time is `Health.in_flight`.

    Attributes:
        base_url: up to and with `/v1`. model: its name there; default the arm's id.
        api_key: where its key is read from; default none is sent.
        cached_usd_per_mtok: price of prompt tokens read from its cache; default the arm's input price.
        connect_s, first_byte_s, total_s: longest wait for a connection, for the first or any later byte, for all.
        continuous_usage: whether it takes vLLM's `continuous_usage_stats`, which meters broken streams exactly.
    """

    base_url: str
    model: str | None = None
    api_key: Secret | None = None
    cached_usd_per_mtok: float | None = None
    connect_s: float = 5.0
    first_byte_s: float = 60.0
    total_s: float = 600.0
    continuous_usage: bool = False

    def __post_init__(self) -> None:
        if not re.match(r"https?://[^/]", self.base_url):
            raise InvalidInput(f"base_url must begin with http:// or https://, got {self.base_url!r}")
        for name in ("connect_s", "first_byte_s", "total_s"):
            POSITIVE.require(name, getattr(self, name))
        if self.cached_usd_per_mtok is not None:
            NOT_NEGATIVE.require("cached_usd_per_mtok", self.cached_usd_per_mtok)


class KeySection(_Section, frozen=True):
    """One key of a client; the file holds its hash alone.

    Attributes:
        name: what budgets and rewards know its requests by. sha256: hexadecimal hash of the key.
        scopes: what it may do: `use` models, give `feedback`, `read` explanations and metrics; `admin` may all.
    """

    name: str
    sha256: str
    scopes: tuple[Scope, ...] = ("use", "feedback")

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise InvalidInput(
                f"key {self.name!r}: sha256 must be 64 lower-case hexadecimal digits, as sha256sum prints"
            )


class GatewaySection(_Section, frozen=True):
    """Where the gateway listens and what it stands before.

    Attributes:
        upstreams: by arm id, one for every arm. route: the model name under which an arm is drawn.
        host, port: where it listens. keys: who may come in; needed unless the host is a loopback address.
        attempts: arms tried for one request before its first byte is sent. body_bytes: longest request.
        stop_s: how long a stop waits for answers under way.
    """

    upstreams: dict[str, UpstreamSection]
    route: str = "auto"
    host: str = "127.0.0.1"
    port: int = 8080
    keys: tuple[KeySection, ...] = ()
    attempts: int = 3
    body_bytes: int = 4 << 20
    stop_s: float = 30.0

    def __post_init__(self) -> None:
        for name in ("attempts", "body_bytes", "stop_s"):
            POSITIVE.require(name, getattr(self, name))
        if not 0 <= self.port < 65536:
            raise InvalidInput(f"port must be from 0 to 65535, got {self.port}")
        if not self.keys and not _loopback(self.host):
            raise InvalidInput(f"host {self.host} can be reached from outside; add keys, or listen on 127.0.0.1")
        if len({key.name for key in self.keys}) < len(self.keys):
            raise InvalidInput("the names of keys must be distinct; rename one")


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


class ServedConfig(RouterConfig, frozen=True):
    """A router's file with its gateway.

    Attributes:
        gateway: how it is served; default it is not.
    """

    gateway: GatewaySection | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gateway is None:
            return
        arms, upstreams = {arm.id for arm in self.arms}, set(self.gateway.upstreams)
        if arms != upstreams:
            odd = ", ".join(sorted(arms ^ upstreams))
            raise InvalidInput(f"gateway: every arm needs one upstream and no other has one; look at {odd}")
        if self.gateway.route in arms:
            raise InvalidInput(f"gateway: route {self.gateway.route!r} is an arm's id; give it another name")
        if isinstance(self.context, int):
            raise InvalidInput("gateway: context must be a list of encoders, for instance [{kind = 'bias'}]")


def load_served(path: str | Path) -> ServedConfig:
    """Read a router's TOML file with its gateway. Raises InvalidInput with the file, the line and what is allowed."""
    return load_toml(Path(path), ServedConfig)


def schema() -> dict[str, Any]:
    """The JSON Schema of the file, its gateway included."""
    return described(ServedConfig)
