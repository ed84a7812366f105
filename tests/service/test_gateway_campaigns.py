"""Longer runs through the HTTP door: draws against their propensities, the gateway's own store, a stop in midstream."""

import asyncio
import io
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys

import aiohttp
import pytest
from openai import OpenAI
from rich.console import Console
from scipy.stats import chi2
from typer.testing import CliRunner

from bandit_router import OneHotTask, Store
from bandit_router.cli import app
from bandit_router.service import demo
from bandit_router.service.fake import FakeUpstream
from support.gateway import listening, serving, until

pytestmark = pytest.mark.slow
GOOD = {"small": {"code": 0.2, "chat": 0.8}, "large": {"code": 0.9, "chat": 0.7}}


async def drive(served, requests, quality, at_once=8):
    """Ask and rate many times; the arm and the propensity of each draw."""
    draws = []
    numbers = iter(range(requests))
    async with aiohttp.ClientSession() as session:

        async def user():
            for number in numbers:
                task = ("code", "chat")[number % 2]
                body = {"model": "auto", "messages": [{"role": "user", "content": "Hello"}]}
                url = f"{served.url}/v1/chat/completions"
                async with session.post(url, json=body, headers={"x-task": task}) as response:
                    answer = await response.json()
                    draws.append((answer["model"], float(response.headers["x-bandit-propensity"]), answer["id"]))
                said = {"response_id": answer["id"], "quality": quality(answer["model"], task)}
                async with session.post(f"{served.url}/v1/feedback", json=said) as response:
                    assert response.status == 200

        await asyncio.gather(*(user() for _ in range(at_once)))
    return draws


def test_draws_agree_with_their_propensities():
    """Pearson's statistic of the indicator of one arm, whose probability changes with what is learned."""
    with serving(context=OneHotTask(tasks=["code"]), policy="UniformRandom") as served:
        uniform = asyncio.run(drive(served, 2000, lambda arm, task: GOOD[arm][task]))
    small = sum(arm == "small" for arm, _, _ in uniform)
    assert {p for _, p, _ in uniform} == {0.5}
    assert (small - 1000) ** 2 / 500 < chi2.ppf(0.9999, 1)
    with serving(context=OneHotTask(tasks=["code"]), policy="EpsilonGreedy", key=b"one draw") as served:
        draws = asyncio.run(drive(served, 2000, lambda arm, task: GOOD[arm][task]))
        found = [served.router.events.find(event) for _, _, event in draws]
    p = [float(decision.probabilities[0]) for decision in found]
    assert all(d.propensity == logged for d, (_, logged, _) in zip(found, draws, strict=True))
    surplus = sum((arm == "small") - chance for (arm, _, _), chance in zip(draws, p, strict=True))
    assert surplus**2 / sum(chance * (1 - chance) for chance in p) < chi2.ppf(0.9999, 1)


def test_replay_reads_the_gateways_own_store(tmp_path):
    url = f"sqlite:///{tmp_path / 'events.db'}"
    with serving(context=OneHotTask(tasks=["code"]), policy="UniformRandom", store=Store(url=url)) as served:
        asyncio.run(drive(served, 200, lambda arm, task: GOOD[arm][task]))
        served.ask(model="large")
        served.router.flush()
    result = CliRunner().invoke(app, ["replay", url, "--policy", "Fixed", "--set", "arm=1", "--json"])
    assert result.exit_code == 0, result.output
    assert '"degraded":1' in result.stdout.replace(" ", "")


def test_a_dead_arm_loses_its_traffic():
    with serving(context=OneHotTask(tasks=["code"])) as served:
        served.fakes["small"].status = 500
        draws = asyncio.run(drive(served, 300, lambda arm, task: 0.5))
        assert {arm for arm, _, _ in draws} == {"large"}
        assert len(served.fakes["small"].bodies) < 60


def test_a_stop_lets_a_stream_end_and_writes_its_outcome(tmp_path):
    fake = FakeUpstream("small", words=20, delay_s=0.05)
    with listening(fake.app()) as upstream, socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
        free.close()
        file = tmp_path / "router.toml"
        file.write_text(
            f'context = [{{kind = "bias"}}]\narms = [{{id = "small", output_usd_per_mtok = 1.0}}]\n'
            f'[store]\nkind = "database"\nurl = "sqlite:///{tmp_path / "events.db"}"\n'
            f'[gateway]\nport = {port}\n[gateway.upstreams.small]\nbase_url = "{upstream}/v1"\n'
        )
        command = [sys.executable, "-m", "bandit_router", "serve", str(file)]
        with subprocess.Popen(command, env=os.environ | {"PYTHONUNBUFFERED": "1"}) as process:
            until(lambda: answers(port))
            with OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="k", max_retries=0) as client:
                stream = client.chat.completions.create(
                    model="auto", messages=[{"role": "user", "content": "Hello"}], stream=True
                )
                first = next(stream)
                process.send_signal(signal.SIGTERM)
                chunks = [first, *stream]
            assert process.wait(30) in (0, -signal.SIGTERM)
    assert sum(bool(chunk.choices[0].delta.content) for chunk in chunks) == 20
    assert fake.left == 0
    log = CliRunner().invoke(app, ["state", "show", f"sqlite:///{tmp_path / 'events.db'}", "--json"])
    assert log.exit_code == 0, log.output
    with sqlite3.connect(tmp_path / "events.db") as database:
        assert database.execute("select count(*) from rewards").fetchone() == (1,)


def answers(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def test_the_demo_serves_and_prints_its_table(monkeypatch):
    monkeypatch.setattr(demo, "EVERY_S", 1.0)
    printed = Console(file=io.StringIO(), width=100)
    asyncio.run(demo.demonstrate(printed, tables=2))
    shown = printed.file.getvalue()
    assert "gateway on http://127.0.0.1" in shown
    assert shown.count("pleased") == 2
    assert "100%" in shown or re.search(r"[1-9]\d?%", shown)
