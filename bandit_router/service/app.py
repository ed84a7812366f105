"""The gateway as one ASGI application, and its server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route

from bandit_router.routing.router import Router
from bandit_router.service.api import Api
from bandit_router.service.config import GatewaySection, ServedConfig
from bandit_router.service.gateway import Chat
from bandit_router.service.keys import Keys
from bandit_router.service.metrics import Metrics
from bandit_router.service.upstream import Upstream


def build_app(router: Router, section: GatewaySection, folder: Path | None = None) -> Starlette:
    """The application over a router, which stays the caller's to close.

    Args:
        router: has an encoder, and the arms that `section` names. folder: where relative paths of secrets start.
    """
    metrics, keys = Metrics(router), Keys(section.keys)
    upstreams: dict[str, Upstream] = {}

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        connector = aiohttp.TCPConnector(limit=0)  # each upstream has its own limit
        async with aiohttp.ClientSession(connector=connector) as session:
            for arm in router.catalogue:
                if (found := section.upstreams.get(arm.id)) is not None:
                    upstreams[arm.id] = Upstream(arm=arm, section=found, session=session, folder=folder)
            yield

    chat = Chat(router=router, section=section, upstreams=upstreams, keys=keys, metrics=metrics)
    api = Api(router=router, section=section, keys=keys, metrics=metrics)
    return Starlette(routes=[Route("/v1/chat/completions", chat, methods=["POST"]), *api.routes()], lifespan=lifespan)


def build_server(app: Starlette, *, host: str, port: int, stop_s: float = 30.0) -> uvicorn.Server:
    """A server that on a stop lets answers under way end, for at most `stop_s`."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            ws="none",
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=max(1, round(stop_s)),
        )
    )


def run(config: ServedConfig, section: GatewaySection, folder: Path) -> None:
    """Serve until a signal comes; then answers end and outcomes are written."""
    with Router(**config.arguments(folder)) as router:
        app = build_app(router, section, folder)
        build_server(app, host=section.host, port=section.port, stop_s=section.stop_s).run()
