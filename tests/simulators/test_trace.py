"""Request traces: reading them, and counting what a controller pages."""

import numpy as np
import polars as pl
import pytest

from bandit_router.errors import InvalidInput
from bandit_router.paging.model import PagingModel
from bandit_router.policies.caching.eviction import LRU
from bandit_router.simulators.adapters import Paging
from bandit_router.simulators.paged import split
from bandit_router.simulators.trace import TraceEnvironment, load_trace, simulate_trace, trace_hindsight


def test_lists_of_adapters_are_flattened_in_order_and_empty_ones_skipped(tmp_path):
    pl.DataFrame({"lora_ids": [["b"], [], ["a", "b"]]}).write_parquet(tmp_path / "t.parquet")
    ids, requests = load_trace(tmp_path / "t.parquet")
    assert ids == ("b", "a")
    assert requests.tolist() == [1, 2, 1]


def test_a_column_of_adapters_is_read_and_nulls_are_skipped(tmp_path):
    pl.DataFrame({"adapter": ["x", None, "y"]}).write_parquet(tmp_path / "t.parquet")
    assert load_trace(tmp_path / "t.parquet")[1].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("frame", "message"),
    [(pl.DataFrame({"x": [1]}), "adapter or lora_ids"), (pl.DataFrame({"adapter": [None]}), "names no adapter")],
)
def test_a_file_without_adapters_is_refused(tmp_path, frame, message):
    frame.write_parquet(tmp_path / "t.parquet")
    with pytest.raises(InvalidInput, match=message):
        load_trace(tmp_path / "t.parquet")


def test_a_file_that_is_no_parquet_is_refused(tmp_path):
    (tmp_path / "t.parquet").write_text("nothing")
    with pytest.raises(InvalidInput, match="not a readable Parquet"):
        load_trace(tmp_path / "t.parquet")


def environment():
    requests = np.array([1, 2, 1, 3, 1, 2])
    return TraceEnvironment(name="test/trace", requests=requests, ids=("a", "b", "c"))


def paging(env, slots):
    return Paging(arms=env.arms, model=PagingModel.load("cloud-storage"), weight=1.0, slots=slots)


def test_misses_costs_and_the_split_of_a_hand_worked_trace():
    env = environment()
    page = paging(env, 2)
    known = trace_hindsight(env, page, seed=0, horizon=6)
    trajectory = simulate_trace(env, LRU(capacity=page.capacity, costs=page.costs), page, seed=0, horizon=6)
    assert trajectory.counters.misses == 4  # 1, 2, 3 and 2 again
    parts = split(trajectory, known.value)
    assert parts.routing == pytest.approx(0.0)
    assert parts.total == pytest.approx(parts.cache + parts.reload)
    assert trajectory.curve[-1] == pytest.approx(-(page.costs[1] + 2 * page.costs[2] + page.costs[3]))


def test_the_best_static_set_of_a_trace_holds_what_is_asked_for_most():
    env = environment()
    known = trace_hindsight(env, paging(env, 2), seed=0, horizon=6)
    assert np.flatnonzero(known.best).tolist() == [0, 1, 2]
    assert known.value == pytest.approx(-paging(env, 2).costs[3])


def test_a_recorded_trace_refuses_a_longer_horizon():
    with pytest.raises(InvalidInput, match="has 6 requests"):
        environment().stream(0, 7)


def test_synthetic_traces_depend_on_the_seed_alone_and_repeat_as_stated():
    env = TraceEnvironment(name="test/synthetic", n_adapters=500, zipf=0.0, repeat=0.5)
    first = env.stream(1, 4000)
    assert (first == env.stream(1, 4000)).all()
    assert (first != env.stream(2, 4000)).any()
    recent = np.mean([first[i] in first[i - 4 : i] for i in range(4, 4000)])
    assert recent == pytest.approx(0.5, abs=0.05)


def test_contexts_say_which_adapter_was_named():
    """Contexts say which adapter was named also when they are read later."""
    contexts = []

    class Collecting(LRU):
        def _after(self, served, values):
            contexts.append(served.context)
            self.read = values(np.array(contexts))
            return super()._after(served, values)

    env = TraceEnvironment(name="t", requests=np.array([1, 2, 1, 3]), ids=("a", "b", "c"))
    paging = Paging(arms=env.arms, model=PagingModel.load("cloud-storage"), weight=1.0, slots=1)
    controller = Collecting(capacity=paging.capacity, costs=paging.costs)
    simulate_trace(env, controller, paging, seed=0, horizon=4)
    assert controller.read[0].argmax(axis=1).tolist() == env.stream(0, 4).tolist()
    assert controller.read[0].sum() == 4
    assert not controller.read[1].any()
