"""`bandit-router serve --demo`: made-up upstreams, made-up users, and a table that shows the router learn."""

from __future__ import annotations

import asyncio
import random
import socket
from collections import Counter
from contextlib import AsyncExitStack, suppress

import aiohttp
from rich.console import Console
from rich.table import Table
from starlette.applications import Starlette

from bandit_router.records.arms import Arm
from bandit_router.routing.groups import Objective
from bandit_router.routing.router import Router
from bandit_router.service.app import build_app, build_server
from bandit_router.service.config import GatewaySection, ServedConfig, UpstreamSection
from bandit_router.service.fake import FakeUpstream

TASKS = ("chat", "code")
ARMS = (
    Arm(id="small", input_usd_per_mtok=0.1, output_usd_per_mtok=0.4),
    Arm(id="coder", input_usd_per_mtok=0.5, output_usd_per_mtok=2.0),
    Arm(id="large", input_usd_per_mtok=3.0, output_usd_per_mtok=15.0),
)
GOOD = {  # how often an answer pleases, by arm and task
    "small": {"chat": 0.85, "code": 0.25},
    "coder": {"chat": 0.60, "code": 0.85},
    "large": {"chat": 0.90, "code": 0.90},
}
DELAY_S = {"small": 0.001, "coder": 0.002, "large": 0.006}  # before each token
USERS, EVERY_S, FEEDBACK = 16, 3.0, 0.7


def demo_config(urls: dict[str, str]) -> ServedConfig:
    """The configuration of the demo, before upstreams at these addresses."""
    upstreams = {arm: UpstreamSection(base_url=f"{url}/v1") for arm, url in urls.items()}
    return ServedConfig(
        arms=ARMS,
        context=({"kind": "bias"}, {"kind": "task", "tasks": TASKS}),
        objective=Objective(prices={"cost_usd": 0.2}, scales={"cost_usd": 0.0003}),
        gateway=GatewaySection(upstreams=upstreams),
    )


class Demo:
    """Users who ask, wait, and often say how it was.

    Args:
        url: of the gateway. seed: of the made-up users.
    """

    def __init__(self, url: str, seed: int = 0) -> None:
        self.url, self.random = url, random.Random(seed)  # noqa: S311 - made-up users, no secrets
        self.served: Counter[tuple[str, str]] = Counter()
        self.pleased: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()

    async def ask(self, session: aiohttp.ClientSession) -> None:
        """One request, and what its user thinks of the answer."""
        task = self.random.choice(TASKS)
        body = {"model": "auto", "messages": [{"role": "user", "content": f"some {task}, please"}]}
        async with session.post(f"{self.url}/v1/chat/completions", json=body, headers={"x-task": task}) as response:
            answer = await response.json()
        good = self.random.random() < GOOD[answer["model"]][task]
        self.served[answer["model"], task] += 1
        self.asked[task] += 1
        self.pleased[task] += good
        if self.random.random() < FEEDBACK:
            said = {"response_id": answer["id"], "quality": float(good)}
            async with session.post(f"{self.url}/v1/feedback", json=said) as response:
                await response.read()

    async def user(self, session: aiohttp.ClientSession) -> None:
        """Ask for ever."""
        while True:
            await self.ask(session)

    def table(self) -> Table:
        """Where requests went since the last table, and how they pleased; starts the next count."""
        table = Table(title=f"{sum(self.asked.values())} requests")
        for column in ("task", *(arm.id for arm in ARMS), "pleased"):
            table.add_column(column, justify="right")
        for task in TASKS:
            n = max(1, self.asked[task])
            shares = (f"{self.served[arm.id, task] / n:.0%}" for arm in ARMS)
            table.add_row(task, *shares, f"{self.pleased[task] / n:.0%}")
        for counter in (self.served, self.pleased, self.asked):
            counter.clear()
        return table


async def demonstrate(console: Console, tables: int | None = None) -> None:
    """Run the demo until it is cancelled, or for a number of tables."""
    async with AsyncExitStack() as stack:
        urls = {}
        for arm in ARMS:
            urls[arm.id] = await _listening(FakeUpstream(arm.id, words=20, delay_s=DELAY_S[arm.id]).app(), stack)
        config = demo_config(urls)
        router = stack.enter_context(Router(**config.arguments()))
        section = config.gateway or GatewaySection(upstreams={})
        url = await _listening(build_app(router, section), stack)
        console.print(f"gateway on {url}/v1, model 'auto'; every table counts the last {EVERY_S:g} s; Ctrl-C ends")
        demo = Demo(url)
        session = await stack.enter_async_context(aiohttp.ClientSession())
        users: list[asyncio.Future[None]] = [asyncio.ensure_future(demo.user(session)) for _ in range(USERS)]
        stack.push_async_callback(_end, users)
        while tables is None or tables > 0:
            await asyncio.sleep(EVERY_S)
            if any(user.done() for user in users):
                await asyncio.gather(*users)  # raises what went wrong
            console.print(demo.table())
            tables = None if tables is None else tables - 1


async def _listening(app: Starlette, stack: AsyncExitStack) -> str:
    taken = socket.create_server(("127.0.0.1", 0))
    server = build_server(app, host="127.0.0.1", port=0, stop_s=2.0)
    serving = asyncio.ensure_future(server._serve(sockets=[taken]))  # `serve` would take Ctrl-C for itself
    while not server.started and not serving.done():
        await asyncio.sleep(0.01)

    async def stop() -> None:
        server.should_exit = True
        await serving
        taken.close()

    stack.push_async_callback(stop)
    return f"http://127.0.0.1:{taken.getsockname()[1]}"


async def _end(users: list[asyncio.Future[None]]) -> None:
    for user in users:
        user.cancel()
    for user in users:
        with suppress(asyncio.CancelledError, aiohttp.ClientError):
            await user


def run_demo() -> None:
    """The demo until Ctrl-C."""
    with suppress(KeyboardInterrupt):
        asyncio.run(demonstrate(Console()))
