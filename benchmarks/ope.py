"""Off-policy evaluation: coverage of intervals, known values on real logs, rows a second beside the peers.

python benchmarks/ope.py coverage            1,000 simulated logs, static and adaptive loggers (about a minute)
python benchmarks/ope.py real                GreenServ and Open Bandit logs; BANDIT_ROUTER_DATA names the data folder
python benchmarks/ope.py rate                rows a second; obp and vw-estimators are timed too where installed
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bandit_router.policies.linucb import LinUCB
from bandit_router.records.outcomes import CHANNELS
from bandit_router.replay.estimators.intervals import bootstrap, clopper_pearson
from bandit_router.replay.estimators.regression import progressive
from bandit_router.replay.estimators.sequences import empirical_bernstein, log_capital, log_wealth
from bandit_router.replay.evaluate import evaluate
from bandit_router.replay.logs import LoggedEvents
from bandit_router.replay.stream import stream
from bandit_router.replay.targets import follow, one_arm

ALPHA, FIRST = 0.05, 50


def main() -> None:
    """Run one study and print its JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=("coverage", "real", "rate"))
    parser.add_argument("--logs", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=1000)
    options = parser.parse_args()
    studies: dict[str, Callable[[], Any]] = {
        "coverage": lambda: [coverage(kind, options.logs, options.rows) for kind in ("static", "adaptive")],
        "real": real,
        "rate": lambda: rate(options.rows),
    }
    print(json.dumps(studies[options.study](), indent=1))


# -- coverage ------------------------------------------------------------------------------------------------------

MEANS, FLOOR = np.array([0.4, 0.5, 0.5]), 0.05


def simulate(kind: str, logs: int, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Arms, propensities and binary rewards of many logs, (logs, rows) each.

    The static logger plays (0.1, 0.3, 0.6). The adaptive one is epsilon-greedy on the means it has seen, each arm at
    least at the floor, so early luck decides how often the target arm 0 is seen at all.
    """
    rng = np.random.default_rng(0 if kind == "static" else 1)
    arm = np.empty((logs, rows), dtype=np.intp)
    propensity, reward = np.empty((logs, rows)), np.empty((logs, rows))
    wins, plays = np.ones((logs, 3)), np.full((logs, 3), 2.0)
    each = np.arange(logs)
    for t in range(rows):
        if kind == "static":
            p = np.tile([0.1, 0.3, 0.6], (logs, 1))
        else:
            p = np.full((logs, 3), FLOOR)
            p[each, (wins / plays).argmax(axis=1)] += 1 - 3 * FLOOR
        drawn = (p.cumsum(axis=1) < rng.random((logs, 1))).sum(axis=1)
        got = (rng.random(logs) < MEANS[drawn]).astype(float)
        arm[:, t], propensity[:, t], reward[:, t] = drawn, p[each, drawn], got
        wins[each, drawn] += got
        plays[each, drawn] += 1
    return arm, propensity, reward


def coverage(kind: str, logs: int, rows: int) -> dict[str, Any]:
    """Share of logs whose interval for arm 0 misses its value, at the end and at any step from the 50th."""
    arm, propensity, reward = simulate(kind, logs, rows)
    value = float(MEANS[0])
    missed: dict[str, list[tuple[bool, bool]]] = {}
    for i in range(logs):
        for name, miss in _misses(arm[i], propensity[i], reward[i], value).items():
            missed.setdefault(name, []).append((bool(miss[-1]), bool(miss[FIRST:].any())))
        if i % 100 == 99:
            print(f"{kind}: {i + 1} logs", file=sys.stderr)
    rates = {name: np.mean(pairs, axis=0) for name, pairs in missed.items()}
    return {
        "logger": kind,
        "logs": logs,
        "rows": rows,
        "alpha": ALPHA,
        "missed_at_the_end": {name: round(float(pair[0]), 4) for name, pair in rates.items()},
        "missed_at_any_step": {
            name: round(float(pair[1]), 4) for name, pair in rates.items() if not name.startswith("once")
        },
    }


def _misses(arm: np.ndarray, propensity: np.ndarray, reward: np.ndarray, value: float) -> dict[str, np.ndarray]:
    """By interval, whether it misses after each row; those named "once" are made at the end alone."""
    weight = (arm == 0) / propensity
    q = np.clip(progressive(np.ones((len(arm), 1)), arm, reward, 3, start=0.5), 0, 1)
    scores = q[:, 0] + weight * (reward - q[np.arange(len(arm)), arm])
    low, high = (weight * reward, value), (weight * (1 - reward), 1 - value)
    top = 1.0 / FLOOR
    robust = [((y + top) / (1 + top), (v + top) / (1 + top)) for y, v in ((scores, value), (1 - scores, 1 - value))]
    ips = weight * reward
    once = np.zeros(len(arm), dtype=bool)

    def at_end(interval: tuple[float, float]) -> np.ndarray:
        once[-1] = not interval[0] <= value <= interval[1]
        return once.copy()

    return {
        "gamma mixture": _gamma(*low) | _gamma(*high),
        "gamma mixture, doubly robust": _gamma(*robust[0]) | _gamma(*robust[1]),
        "betting": _bet(*low) | _bet(*high),
        "betting, doubly robust": _bet(scores, value, top) | _bet(1 - scores, 1 - value, top),
        "empirical Bernstein": _bernstein(*low) | _bernstein(*high),
        "normal, ips": _normal(ips, value),
        "normal, doubly robust": _normal(scores, value),
        "once: bootstrap, ips": at_end(bootstrap(ips, ALPHA)),
        "once: Clopper-Pearson, ips": at_end(clopper_pearson(weight, reward, alpha=ALPHA)),
    }


def _gamma(y: np.ndarray, value: float) -> np.ndarray:
    t = np.arange(1, len(y) + 1)
    guess = np.minimum((np.concatenate([[0.0], y.cumsum()[:-1]]) + 0.5) / t, 1.0)
    wealth = log_wealth(y.cumsum() - t * value, ((y - guess) ** 2).cumsum())
    return np.asarray(wealth >= math.log(2 / ALPHA))


def _bet(y: np.ndarray, value: float, floor: float = 0.0) -> np.ndarray:
    capital = log_capital(y, value, floor=floor, alpha=ALPHA / 2, scale=1 / FLOOR)
    return np.asarray(np.maximum.accumulate(capital) >= math.log(2 / ALPHA))


def _bernstein(y: np.ndarray, value: float) -> np.ndarray:
    return np.asarray(empirical_bernstein(y, alpha=ALPHA / 2, scale=1 / FLOOR) > value)


def _normal(y: np.ndarray, value: float) -> np.ndarray:
    t = np.arange(1, len(y) + 1)
    mean = y.cumsum() / t
    deviation = np.sqrt(np.maximum((y**2).cumsum() / t - mean**2, 0.0) / np.maximum(t - 1, 1))
    return np.asarray(np.abs(mean - value) > 1.959964 * deviation)


# -- real logs -----------------------------------------------------------------------------------------------------


def real() -> dict[str, Any]:
    """Values whose truth is known from elsewhere, on logs with exact propensities."""
    folder = os.environ.get("BANDIT_ROUTER_DATA")
    if not folder:
        raise SystemExit("set BANDIT_ROUTER_DATA to the data folder")
    return {"greenserv": greenserv(Path(folder)), "open_bandit": open_bandit(Path(folder))}


def greenserv_log(folder: Path) -> LoggedEvents:
    """12,500 uniform-random decisions over 16 models; contexts are the five tasks."""
    import polars as pl

    logged = pl.read_parquet(folder / "outcomes/greenserv/logged_random.parquet").with_columns(pl.col("arm").cast(str))
    tasks = pl.read_parquet(folder / "outcomes/greenserv/queries.parquet")["task"].cast(str).to_numpy()
    arms, names = sorted(logged["arm"].unique()), sorted(set(tasks))
    task = tasks[logged["query_id"].to_numpy()]
    return LoggedEvents.of(
        arms=arms,
        arm=[arms.index(arm) for arm in logged["arm"]],
        propensity=logged["propensity"].to_numpy(),
        quality=logged["reward"].to_numpy(),
        contexts=(task[:, None] == np.array(names)).astype(float),
        features=tuple(names),
    )


def greenserv(folder: Path) -> list[dict[str, Any]]:
    """Fixed models whose reward is known for nearly all 2,500 queries: estimate against mean over the known cells."""
    import polars as pl

    log = greenserv_log(folder)
    cells = pl.read_parquet(folder / "outcomes/greenserv/cells.parquet").with_columns(pl.col("arm").cast(str))
    known = cells.group_by("arm").agg(pl.len().alias("cells"), pl.col("reward").mean()).sort("cells", descending=True)
    rows = []
    for arm, count, truth in known.filter(pl.col("cells") >= 2450).rows():
        metric = evaluate(log, one_arm(log, arm), estimators=("ips", "snips", "dm", "dr")).metrics["utility"]
        rows.append(
            {
                "model": arm,
                "known_cells": count,
                "known_mean": round(truth, 4),
                **{name: round(value.value, 4) for name, value in metric.estimates.items()},
                "dr_standard_error": round(metric.estimates["dr"].standard_error, 4),
                "anytime": [round(end, 4) for end in metric.anytime["gamma_mixture"]],
            }
        )
    return rows


def open_bandit(folder: Path) -> dict[str, Any]:
    """Each policy's click rate from the other's log, and from its own.

    The bts policy is not published; its distribution by position is estimated by its own frequencies in its log.
    """
    import polars as pl

    random, bts = (pl.read_parquet(folder / f"logged/obd_{name}_all.parquet") for name in ("random", "bts"))
    share = np.zeros((3, 80))
    np.add.at(share, (bts["position"].to_numpy() - 1, bts["item_id"].to_numpy()), 1.0)
    share /= share.sum(axis=1, keepdims=True)
    answers = {}
    for name, frame, other in (("bts_from_random", random, bts), ("uniform_from_bts", bts, random)):
        position = frame["position"].to_numpy() - 1
        target = share[position] if name == "bts_from_random" else np.full((frame.height, 80), 1 / 80)
        log = LoggedEvents.of(
            arms=[str(item) for item in range(80)],
            arm=frame["item_id"].to_numpy(),
            propensity=frame["propensity"].to_numpy(),
            quality=frame["click"].to_numpy().astype(float),
            contexts=np.eye(3)[position],
        )
        result = evaluate(log, target, estimators=("ips", "snips", "dr"))
        metric = result.metrics["utility"]
        answers[name] = {
            "on_policy": other["click"].mean(),
            **{key: round(value.value, 6) for key, value in metric.estimates.items()},
            "ips_normal": [round(end, 6) for end in metric.estimates["ips"].intervals["normal"]],
            "anytime": [round(end, 6) for end in metric.anytime["gamma_mixture"]],
            "effective_rows": round(result.diagnostics.ess, 1),
            "weights_mean": round(result.diagnostics.weight_mean, 4),
            "warnings": result.diagnostics.warnings,
        }
    return answers


# -- rates ---------------------------------------------------------------------------------------------------------


def rate(rows: int) -> dict[str, Any]:
    """Rows a second in one process: streaming pass, estimates in memory, a learning policy, and the peers."""
    rows = max(rows, 1_000_000)
    rng = np.random.default_rng(0)
    arm = rng.integers(0, 16, rows)
    propensity, quality = np.full(rows, 1 / 16), (rng.random(rows) < 0.3 + 0.02 * arm).astype(float)
    rates = {"streaming pass, one metric, 10 files": _streamed(arm, propensity, quality)}
    log = LoggedEvents.of(arms=[str(a) for a in range(16)], arm=arm, propensity=propensity, quality=quality)
    target = one_arm(log, "3")
    start = time.perf_counter()
    evaluate(log, target, estimators=("ips", "snips"))
    rates["in memory: ips, snips, diagnostics, intervals"] = rows / (time.perf_counter() - start)
    few = 20_000
    x = rng.normal(size=(few, 32)) / math.sqrt(32)
    small = LoggedEvents.of(
        arms=log.arms, arm=arm[:few], propensity=propensity[:few], quality=quality[:few], contexts=x
    )
    for learning in ("every", "accepted"):
        start = time.perf_counter()
        follow(LinUCB(n_arms=16, dim=32, channels=len(CHANNELS)), small, learning=learning)
        rates[f"LinUCB along the log, 16 arms, d=32, {len(CHANNELS)} channels, learning from {learning}"] = few / (
            time.perf_counter() - start
        )
    rates |= _peers(arm, propensity, quality)
    return {"rows_a_second": {name: round(value) for name, value in rates.items()}, "cores": os.cpu_count()}


def _streamed(arm: np.ndarray, propensity: np.ndarray, quality: np.ndarray) -> float:
    import polars as pl

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.parquet"
        names = np.array([f"model-{a}" for a in range(16)])[arm]
        pl.DataFrame({"arm": names, "propensity": propensity, "quality": quality}).write_parquet(path)
        start = time.perf_counter()
        stream([path] * 10, "model-3")
        return 10 * len(arm) / (time.perf_counter() - start)


def _peers(arm: np.ndarray, propensity: np.ndarray, quality: np.ndarray) -> dict[str, float]:
    rates, few = {}, 200_000
    try:
        from estimators.bandits import cs, ips, snips
    except ImportError:
        print("vw-estimators is not installed; left out", file=sys.stderr)
    else:
        for name, estimator in (("ips + snips", (ips.Estimator(), snips.Estimator())), ("cs", (cs.Interval(),))):
            start = time.perf_counter()
            for a, p, r in zip(arm[:few].tolist(), propensity[:few].tolist(), quality[:few].tolist(), strict=True):
                for one in estimator:
                    one.add_example(p, r, 1.0 if a == 3 else 0.0)
            rates[f"vw-estimators, {name}"] = few / (time.perf_counter() - start)
    try:
        from obp.ope import InverseProbabilityWeighting, OffPolicyEvaluation, SelfNormalizedInverseProbabilityWeighting
    except ImportError:
        print("obp is not installed; left out", file=sys.stderr)
    else:
        table = np.zeros((few, 16, 1))
        table[:, 3] = 1.0
        feedback = {
            "n_rounds": few,
            "n_actions": 16,
            "action": arm[:few],
            "reward": quality[:few],
            "pscore": propensity[:few],
            "position": None,
            "context": np.ones((few, 1)),
        }
        kinds = [InverseProbabilityWeighting(), SelfNormalizedInverseProbabilityWeighting()]
        start = time.perf_counter()
        OffPolicyEvaluation(bandit_feedback=feedback, ope_estimators=kinds).summarize_off_policy_estimates(
            table, n_bootstrap_samples=100
        )
        rates["obp, ips + snips, 100 bootstrap samples"] = few / (time.perf_counter() - start)
    return rates


if __name__ == "__main__":
    main()
