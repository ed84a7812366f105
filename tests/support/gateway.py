"""A gateway before made-up upstreams, all on loopback in threads of their own."""

from __future__ import annotations

import logging
import socket
import threading
import time
from contextlib import ExitStack, contextmanager

import uvicorn
from openai import OpenAI

from bandit_router import Arm, Bias, Router
from bandit_router.service.app import build_app, build_server
from bandit_router.service.config import GatewaySection, UpstreamSection
from bandit_router.service.fake import FakeUpstream

ARMS = (
    Arm(id="small", input_usd_per_mtok=1.0, output_usd_per_mtok=2.0),
    Arm(id="large", input_usd_per_mtok=10.0, output_usd_per_mtok=20.0),
)


def bill(arm, usages, cached=0.5):
    """What the made-up upstream is owed, in US dollars."""
    total = 0.0
    for usage in usages:
        read = usage["prompt_tokens_details"]["cached_tokens"]
        total += (usage["prompt_tokens"] - read) * arm.input_usd_per_mtok + read * cached
        total += usage["completion_tokens"] * arm.output_usd_per_mtok
    return total / 1e6


@contextmanager
def listening(app):
    """The base URL of an application that is served until the end of the block."""
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # streams break here on purpose
    taken = socket.create_server(("127.0.0.1", 0))
    server: uvicorn.Server = build_server(app, host="127.0.0.1", port=0, stop_s=5)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [taken]}, daemon=True)
    thread.start()
    until(lambda: server.started)
    try:
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        taken.close()
        assert not thread.is_alive()


def until(holds, patience_s=20.0):
    """Wait for what happens in another thread."""
    end = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.005)


class Served:
    """A gateway under test: `router`, its made-up upstreams by arm, its `url` and a client of OpenAI."""

    def __init__(self, router, fakes, url):
        self.router, self.fakes, self.url = router, fakes, url
        self.client = OpenAI(base_url=f"{url}/v1", api_key="secret", max_retries=0)

    def ask(self, model="auto", **more):
        return self.client.chat.completions.create(model=model, messages=[{"role": "user", "content": "Hello"}], **more)

    def ask_raw(self, model="auto", **more):
        return self.client.chat.completions.with_raw_response.create(
            model=model, messages=[{"role": "user", "content": "Hello"}], **more
        )

    def get(self, path, token="secret"):
        return self.client._client.get(self.url + path, headers={"authorization": f"Bearer {token}"})

    def post(self, path, token="secret", **body):
        return self.client._client.post(self.url + path, json=body, headers={"x-api-key": token})

    def billed(self, arm):
        """What /metrics has as billed for an arm."""
        return self.metric("bandit_router_cost_usd_total", arm=arm)

    def metric(self, name, **labels):
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        lines = [line for line in self.get("/metrics").text.splitlines() if line.startswith(name)]
        return sum(float(line.rpartition(" ")[2]) for line in lines if all(label in line for label in wanted))


@contextmanager
def serving(*, arms=ARMS, gateway=None, upstream=None, context=None, urls=None, **router):
    """A `Served` until the end of the block."""
    with ExitStack() as stack:
        fakes = {arm.id: FakeUpstream(arm.id) for arm in arms}
        urls = (urls or {}) | {
            arm: stack.enter_context(listening(fake.app())) for arm, fake in fakes.items() if arm not in (urls or {})
        }
        more = {"cached_usd_per_mtok": 0.5, "continuous_usage": True} | (upstream or {})
        sections = {arm: UpstreamSection(base_url=f"{url}/v1", **more) for arm, url in urls.items()}
        engine = stack.enter_context(Router(arms=arms, context=context or Bias(), **router))
        section = GatewaySection(upstreams=sections, **(gateway or {}))
        url = stack.enter_context(listening(build_app(engine, section)))
        served = Served(engine, fakes, url)
        stack.callback(served.client.close)
        yield served
