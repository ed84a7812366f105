"""Drive one cost channel through every room that has channels; a program, so that a copy of the package can run it."""

import sys
import tempfile
from pathlib import Path

import numpy as np
import polars as pl

from bandit_router import CHANNELS, Arm, Budgets, Objective, Outcome, Router, Store, Utility, Window
from bandit_router.cli.log_options import ranges
from bandit_router.replay.compare import compare, make_target
from bandit_router.replay.gate import parse_gate
from bandit_router.replay.logs import FORMATS, Intake, LoggedEvents, read_logs, write_log
from bandit_router.replay.logs.record import row_of
from bandit_router.replay.logs.table import parse_columns
from bandit_router.replay.stream import stream
from bandit_router.simulators.configs import PolicyConfig, TableConfig
from bandit_router.simulators.experiment import run_scenario
from bandit_router.simulators.scenario import Scenario
from bandit_router.simulators.sweep import run_sweep, write_sweep
from bandit_router.simulators.table import describe_table, load_table

AMOUNTS = {"small": 2.0, "large": 8.0}


def simulate(channel: str, folder: Path) -> None:
    """A table with the channel, its results, its sweep and the picture of it."""
    cells = {"query_id": [0, 0, 1, 1], "arm": ["small", "large"] * 2, "quality": [0.2, 0.9, 0.3, 0.8]}
    pl.DataFrame({"query_id": [0, 1]}).write_parquet(folder / "queries.parquet")
    pl.DataFrame({**cells, channel: [*AMOUNTS.values()] * 2}).write_parquet(folder / "outcomes.parquet")
    table = load_table(folder)
    assert table.channels == ("quality", channel)
    assert [row[f"{channel}_mean"] for row in describe_table(table)["per_arm"]] == [2.0, 8.0]
    scenario = Scenario(
        name="one",
        environment=TableConfig(table=str(folder)),
        policies=[PolicyConfig(name="Fixed", settings={"arm": 1})],
        prices={channel: 0.5},
        seeds=2,
        horizon_requests=10,
    )
    (result,) = run_scenario(scenario).document["policies"]
    assert result[f"{channel}_mean"] == 8.0
    assert np.isclose(result["utility_mean"]["mean"], 0.85 - 0.5)  # the dearest arm's mean is the reference amount
    swept = run_sweep(scenario, channel=channel, prices=[0.0, 1.0])
    assert swept["range"] == [2.0, 8.0]
    assert (folder / "sweep.json") in write_sweep(swept, folder)


def serve(channel: str, folder: Path) -> None:
    """Prices, a budget, rewards that are refused or kept, and a store that another process reads."""
    arms = [Arm(id=arm) for arm in AMOUNTS]
    for opened in range(2):
        budgets = Budgets(
            limits=[Window(name="cap", channel=channel, total=100.0, window_s=3600.0)],
            expected={arm: Outcome(**{channel: amount}) for arm, amount in AMOUNTS.items()},
        )
        with Router(
            arms=arms,
            context=1,
            objective=Objective(prices={channel: 0.1}, scales={channel: 8.0}),
            budgets=budgets,
            store=Store(f"sqlite:///{folder / 'events.db'}"),
            clock=lambda: 100.0,
        ) as router:
            decision = router.decide([1.0], event_id=f"r-{opened}")
            assert router.observe(decision.event_id, Outcome(**{channel: -1.0})).refused == "out_of_range"
            settled = router.observe(decision.event_id, Outcome(quality=0.5, **{channel: AMOUNTS[decision.arm]}))
            assert np.isclose(settled.reward, 0.5 - 0.1 * AMOUNTS[decision.arm] / 8.0)
            row = row_of(decision, settled.outcome, arms=router.catalogue.ids)
            assert getattr(row, channel) == AMOUNTS[decision.arm]
            assert router.learner.metered[router.learner.channels.index(channel)] == opened + 1


def replay(channel: str, folder: Path) -> None:
    """Every format that has channels keeps the amounts; they are priced, bounded, gated and streamed."""
    rng = np.random.default_rng(0)
    arm = rng.integers(0, 2, 400)
    amounts = np.where(arm == 0, 2.0, 8.0)
    outcomes = np.full((400, len(CHANNELS)), np.nan)
    outcomes[:, 0], outcomes[:, CHANNELS.index(channel)] = 0.5, amounts
    log = LoggedEvents.of(arms=("large", "small"), arm=1 - arm, propensity=np.full(400, 0.5), outcomes=outcomes)
    for name, (_, write) in FORMATS.items():
        if write is not None and name != "obp":  # which has one reward and no channels
            path = folder / f"log.{name}"
            write_log(log, path, format=name)
            assert np.array_equal(read_logs([path], Intake(), format=name).channel(channel), amounts), name
    utility = Utility(prices={channel: 0.2}, scales={channel: 10.0})
    bounds = ranges([f"{channel}=0:10"])
    document = compare(log, make_target("arm=small", log), utility=utility, bounds=bounds, gate=f"{channel} < 3")
    assert np.isclose(document["metrics"]["utility"]["estimates"]["snips"]["value"], 0.5 - 0.2 * 0.2)
    assert np.isclose(document["metrics"][channel]["estimates"]["snips"]["value"], 2.0)
    assert parse_gate(f"{channel} < 3").metric == channel
    assert parse_columns(f"{channel}=mine") == {channel: "mine"}
    sums = stream([folder / "log.parquet"], "small", utility=utility)
    assert channel in sums.blocks


def main(channel: str) -> None:
    """Raise AssertionError where the channel is left out."""
    assert channel in CHANNELS
    for room in (simulate, serve, replay):
        with tempfile.TemporaryDirectory() as folder:
            room(channel, Path(folder))
    print(channel, len(CHANNELS))


if __name__ == "__main__":
    main(sys.argv[1])
