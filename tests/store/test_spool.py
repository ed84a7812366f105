"""The queue: bounded, and recoverable after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bandit_router.records.arms import Arm
from bandit_router.records.outcomes import Outcome
from bandit_router.routing.router import Router
from bandit_router.settling.rules import Reward
from bandit_router.store import Store
from bandit_router.store.engine import place_of
from bandit_router.store.spool import Item, Spool, abandoned, frames
from bandit_router.store.wire import encode_decision, encode_reward


def item(number: int) -> Item:
    reward = Reward(event_id=f"e{number}", reward_id="r", at_s=0.0, outcome=Outcome(quality=0.5))
    return Item(reward, encode_reward(reward), None)


def left(folder: Path) -> list[tuple[list[bytes], bool]]:
    found = []
    for _, descriptor in abandoned(folder):
        found.append(frames(descriptor))
        os.close(descriptor)
    return found


def test_what_was_offered_is_taken_in_order_until_it_is_done(tmp_path: Path) -> None:
    spool = Spool(folder=tmp_path, capacity_bytes=4096)
    items = [item(number) for number in range(5)]
    assert all(spool.offer(i) for i in items)
    assert spool.take() == items
    assert spool.offer(item(5))
    assert spool.take() == items
    spool.done()
    assert spool.take() == [item(5)]
    spool.done()
    assert spool.take() == []
    spool.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("folder", [None, "files"])
def test_a_full_queue_declines_until_its_other_half_is_done(folder: str | None, tmp_path: Path) -> None:
    """A full queue declines and has room again when its other half is done."""
    spool = Spool(folder=folder and tmp_path / folder, capacity_bytes=4096)
    accepted = 0
    while spool.offer(item(accepted)):
        accepted += 1
    assert 0 < accepted < 4096 / len(item(0).payload)
    assert spool.crowded
    assert len(spool.take()) == accepted
    assert spool.offer(item(0))
    assert not spool.crowded
    spool.close()
    assert not spool.offer(item(1))


def test_a_spool_in_use_is_not_up_for_adoption(tmp_path: Path) -> None:
    spool = Spool(folder=tmp_path, capacity_bytes=4096)
    assert left(tmp_path) == []
    spool.close()


def test_records_survive_the_kill_of_their_process(tmp_path: Path) -> None:
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from tests_item import item\n"
        "from bandit_router.store.spool import Spool\n"
        "spool = Spool(folder=Path(sys.argv[1]), capacity_bytes=4096)\n"
        "for number in range(7): assert spool.offer(item(number))\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)\n"
    ).replace("from tests_item import item", "sys.path.insert(0, sys.argv[2]); from test_spool import item")
    arguments = [sys.executable, "-c", code, str(tmp_path), str(Path(__file__).parent)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        child.send_signal(signal.SIGKILL)
    found = left(tmp_path)
    assert sorted(len(payloads) for payloads, _ in found) == [0, 7]
    assert all(whole for _, whole in found)
    assert max(found)[0] == [item(number).payload for number in range(7)]


def test_every_damaged_byte_of_a_spool_is_noticed(tmp_path: Path) -> None:
    spool = Spool(folder=tmp_path, capacity_bytes=4096)
    payloads = [item(number).payload for number in range(3)]
    for number in range(3):
        spool.offer(item(number))
    data = spool._front.data[: spool._front.end]
    spool.take()
    spool.done()
    spool.close()
    path = tmp_path / "copy"
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 1
        path.write_bytes(damaged)
        descriptor = os.open(path, os.O_RDONLY)
        got, whole = frames(descriptor)
        os.close(descriptor)
        assert not whole or at < 8  # the count itself has no checksum
        assert got == payloads[: len(got)]
    for length in range(len(data)):
        path.write_bytes(data[:length])
        descriptor = os.open(path, os.O_RDONLY)
        got, whole = frames(descriptor)
        os.close(descriptor)
        assert got == payloads[: len(got)]
        assert not whole or length == 0


def test_a_file_that_goes_while_the_folder_is_read_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "gone.spool").symlink_to(tmp_path / "nowhere")  # listed, and not there to open
    assert left(tmp_path) == []


@pytest.mark.parametrize("names", ["ab", "ba"])
def test_a_reward_and_its_decision_left_in_two_files_find_each_other(names: str, tmp_path: Path) -> None:
    """Longer ago than a reward may be early, so that only the order of recovery can bring them together."""
    router = Router(arms=[Arm(id="a")], context=1, clock=lambda: time.time() - 1000.0)
    decision = router.decide([1.0], event_id="e")
    url = f"sqlite:///{tmp_path}/events.db"
    report = Reward(event_id="e", reward_id="r", at_s=decision.timestamp_s, outcome=Outcome(quality=0.5))
    left = [Item(decision, encode_decision(decision), None), Item(report, encode_reward(report), None)]
    for name, record in zip(names, left, strict=True):
        spool = Spool(folder=tmp_path / name, capacity_bytes=4096)
        spool.offer(record)
        spool.close()
        (used,) = [path for path in (tmp_path / name).glob("*.spool") if any(path.read_bytes())]
        used.rename(tmp_path / f"{place_of(url)}-{name}.spool")
    store = Store(url, spool=tmp_path, wait_s=10.0)
    with Router(arms=[Arm(id="a")], context=1, store=store) as router:
        router.flush()
        assert router.counters["recovered_records"] == 2
        assert router.policy.steps == 1
    assert list(tmp_path.glob("*.spool")) == []
