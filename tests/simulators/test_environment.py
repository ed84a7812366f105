"""Streams: a pass over the table is a permutation, and every policy and process meets the same luck."""

import subprocess
import sys

import numpy as np
import pytest

from bandit_router.simulators.environment import BLOCK, draws, generator
from bandit_router.simulators.table import TableEnvironment, load_table


@pytest.fixture
def environment(write_table):
    """Seven queries with one feature, their own number; qualities tell query and arm apart."""
    n = 7
    cells = [(q, arm, (q + 8 * arm) / 16) for q in range(n) for arm in range(2)]
    query, arm, quality = zip(*cells, strict=True)
    return TableEnvironment(
        load_table(
            write_table(
                queries={"query_id": range(n)},
                outcomes={"query_id": query, "arm": ["ab"[a] for a in arm], "quality": quality},
                features={"query_id": range(n), "f0": [float(q) for q in range(n)]},
            )
        ),
        contexts=["features"],
    )


def queries(environment, seed, horizon):
    return np.concatenate([block.contexts[:, 1] for block in environment.blocks(seed, horizon)]).astype(int).tolist()


def test_one_pass_shows_every_query_once_and_the_next_is_shuffled_anew(environment):
    stream = queries(environment, 0, 21)
    passes = [stream[i : i + 7] for i in (0, 7, 14)]
    assert [sorted(one) for one in passes] == [list(range(7))] * 3
    assert len({tuple(one) for one in passes}) == 3


def test_a_shorter_horizon_is_the_beginning_of_a_longer_one(environment):
    assert queries(environment, 5, 30)[:11] == queries(environment, 5, 11)


def test_context_and_outcomes_of_a_step_belong_to_one_query(environment):
    for block in environment.blocks(3, 20):
        assert block.outcomes.shape == (20, 2, 1)
        np.testing.assert_array_equal(block.outcomes[:, :, 0], (block.contexts[:, 1:] + [0, 8]) / 16)
        assert block.means is block.outcomes


def test_seeds_give_different_orders_and_the_same_seed_the_same(environment):
    assert len({tuple(queries(environment, seed, 7)) for seed in range(20)}) > 15
    assert queries(environment, 4, 50) == queries(environment, 4, 50)


def test_a_long_stream_comes_in_blocks(environment):
    sizes = [len(block.contexts) for block in environment.blocks(0, 2 * BLOCK + 5)]
    assert sizes == [BLOCK, BLOCK, 5]
    assert sorted(np.bincount(queries(environment, 0, 2 * BLOCK))) == sorted(
        [293] * 4 + [292] * 3
    )  # 2048 = 7 * 292 + 4


def test_purpose_seed_block_and_name_each_give_another_stream():
    streams = {
        generator(name, purpose, seed, block).random()
        for name in ("a", "b")
        for purpose in ("draw", "order")
        for seed in (0, 1)
        for block in (0, 1)
    }
    assert len(streams) == 16


def test_a_shorter_block_draws_the_beginning_of_a_full_one():
    np.testing.assert_array_equal(draws("e", 1, 0, 10), draws("e", 1, 0, BLOCK)[:10])


def test_another_process_draws_the_same_numbers():
    """Python's own hash is salted per process; the streams must not depend on it."""
    code = "from bandit_router.simulators.environment import draws; print(draws('e', 1, 2, 3).tolist())"
    other = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == str(draws("e", 1, 2, 3).tolist())


def test_the_description_names_what_was_run(environment):
    assert environment.describe() == {
        "kind": "table",
        "table": "tiny",
        "queries": 7,
        "contexts": ["bias", "features"],
        "dim": 2,
        "channels": ["quality"],
        "scales": {},
    }
