"""What the default policy promises beside utility on tables: change, new arms, useless and useful features, step time.

    BANDIT_ROUTER_DATA=FOLDER python -m benchmarks.learning_bars > bars.json

Made streams unless a table is named. Quality is 0/1 or normal with standard deviation 0.25; four tasks as context.
Without BANDIT_ROUTER_DATA the rows on tables are left out.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from bandit_router import Arm, Router
from bandit_router.arrays import F64
from bandit_router.policies import DEFAULT_POLICY, POLICIES
from bandit_router.policies.base import Policy
from bandit_router.policies.distributions import draw
from bandit_router.policies.play import play
from bandit_router.simulators.results import interval
from bandit_router.simulators.table import load_table
from benchmarks.learning import TABLES, environment

TASKS, NOISE = 4, 0.25
NOISE_COLUMNS, TABLE_ROWS = 64, 2000


def default(n_arms: int, dim: int) -> Any:
    """The policy that is judged."""
    return POLICIES[DEFAULT_POLICY](n_arms=n_arms, dim=dim)


def frozen(n_arms: int, dim: int) -> Any:
    """The same without change detection."""
    policy = default(n_arms, dim)
    policy._bet = lambda *_: None
    return policy


def tasks(n: int, seed: int) -> F64:
    """One-hot task of each request."""
    return np.asarray(np.eye(TASKS)[np.random.default_rng([seed, 1]).integers(0, TASKS, n)])


def stream(means: F64, seed: int, binary: bool) -> tuple[F64, F64]:
    """Outcomes (n, arms, 1) and the draws' uniforms."""
    rng = np.random.default_rng(seed)
    if binary:
        outcomes = (rng.random(means.shape) < means).astype(float)
    else:
        outcomes = means + NOISE * rng.normal(size=means.shape)
    return outcomes[..., None], rng.random(len(means))


def run(policy: Policy, contexts: F64, means: F64, seed: int, binary: bool) -> Any:
    """Arms played."""
    outcomes, uniforms = stream(means, seed, binary)
    return play(policy, contexts, outcomes, uniforms, np.ones(1))[0]


def delay(played: Any) -> int:
    """The first step from which an arm has half of the next fifty requests."""
    share = np.convolve(played, np.full(50, 1 / 50), "valid")
    return int(np.argmax(share >= 0.5)) if (share >= 0.5).any() else len(played)


def flips(seeds: int) -> dict[str, Any]:
    """Two arms that change places after 1,000 of 2,000 requests, and what watching for it costs when they do not."""
    rows = {}
    for binary in (False, True):
        for gap in (0.15, 0.2, 0.3):
            delays, losses = [], []
            for seed in range(seeds):
                still = np.tile([0.75, 0.75 - gap], (2000, 1))
                flipped = still.copy()
                flipped[1000:] = flipped[1000:, ::-1]
                x = tasks(2000, seed)
                delays.append(delay(run(default(2, TASKS), x, flipped, seed, binary)[1000:] == 1))
                both = [run(make(2, TASKS), x, still, seed, binary) for make in (frozen, default)]
                losses.append(gap * float((both[1] == 1).mean() - (both[0] == 1).mean()))
            key = f"{'0/1' if binary else 'normal'}, {100 * gap:.0f} points"
            rows[key] = {"median_delay": float(np.median(delays)), "unflipped_loss": interval(np.array(losses))}
            print(key, rows[key], file=sys.stderr)
    return rows


def new_arms(seeds: int) -> dict[str, Any]:
    """A fourth arm after 500 requests, 3 points better or 10 worse than the best."""
    rows = {}
    for binary in (False, True):
        for better in (0.03, -0.1):
            delays, shares = [], []
            for seed in range(seeds):
                x, policy = tasks(1000, seed), default(3, TASKS)
                means = np.tile([0.88, 0.85, 0.75, 0.88 + better], (1000, 1))
                run(policy, x[:500], means[:500, :3], seed, binary)
                policy.add_arm()
                arms = run(policy, x[500:], means[500:], seed + 1000, binary)
                delays.append(delay(arms == 3))
                shares.append(float((arms[300:] == 3).mean()))
            key = f"{'0/1' if binary else 'normal'}, {100 * better:+.0f} points"
            rows[key] = {"median_delay": float(np.median(delays)), "median_share_after_300": float(np.median(shares))}
            print(key, rows[key], file=sys.stderr)
    return rows


def noise_columns(seeds: int, folder: str | None) -> dict[str, Any]:
    """Utility lost per request to 64 columns of noise beside the task, 2,000 requests."""
    rows = {}
    for name in ("made", *(TABLES if folder else ())):
        losses = []
        for seed in range(seeds):
            rng = np.random.default_rng([seed, 2])
            if name == "made":
                x = tasks(TABLE_ROWS, seed)
                means = np.array([0.5, 0.62, 0.68]) + x @ np.random.default_rng(5).normal(0, 0.05, (TASKS, 3))
                outcomes = stream(means, seed, True)[0]
            else:
                table = load_table(Path(str(folder)) / "outcomes" / name)
                rows_of = rng.permutation(len(table.tasks))[:TABLE_ROWS]
                outcomes = means = table.outcomes[rows_of][..., :1]
                means = means[..., 0]
                kinds = np.unique([str(task) for task in table.tasks], return_inverse=True)[1]
                x = np.eye(kinds.max() + 1)[kinds[rows_of]]
            wide = np.concatenate([x, rng.normal(size=(len(x), NOISE_COLUMNS))], axis=1)
            got, luck = [], rng.random(len(x))
            for contexts in (x, wide):
                policy = default(means.shape[1], contexts.shape[1])
                arms, _ = play(policy, contexts, outcomes, luck, np.ones(1))
                got.append(means[np.arange(len(x)), arms].mean())
            losses.append(got[0] - got[1])
        rows[name] = interval(np.array(losses))
        print(name, rows[name], file=sys.stderr)
    return rows


def scaled(n_arms: int, dim: int, deviation: float) -> Any:
    """The same with the context's scale given, in noise deviations, and everything else as learned otherwise."""
    policy = default(n_arms, dim)
    model = policy.model
    model.kind, model.unit = np.append(0, np.full(dim, 2)), np.append(1.0, np.full(dim, float(dim)))
    model.scale[2], model.shared_scale[2] = deviation**-2, deviation**-2
    model.maximise = lambda: None
    model.fit()
    return policy


def useful_features(seeds: int) -> dict[str, Any]:
    """Share of what the correctly scaled model gains by 8 numbers, three arms, 2,000 requests, over not seeing them."""
    rows = {}
    for binary in (False, True):
        for size in (0.05, 0.1, 0.2):
            utilities = []
            for seed in range(seeds):
                rng = np.random.default_rng([seed, 7])
                x, slopes = rng.normal(size=(2000, 8)), rng.normal(0, size / 8**0.5, (8, 3))
                means = np.clip(0.5 + rng.normal(0, 0.05, 3) + x @ slopes, 0, 1)
                noise = 0.5 if binary else NOISE
                runs = ((default(3, 8), x), (scaled(3, 8, size / noise), x), (default(3, 1), np.ones((2000, 1))))
                arms = [run(policy, contexts, means, seed, binary) for policy, contexts in runs]
                utilities.append([means[np.arange(2000), played].mean() for played in arms])
            learned, right, without = np.mean(utilities, axis=0)
            key = f"{'0/1' if binary else 'normal'}, deviation {100 * size:.0f} points"
            rows[key] = {"gain": learned - without, "right_scale": right - without}
            rows[key]["share"] = (learned - without) / (right - without) if right > without else None
            print(key, rows[key], file=sys.stderr)
    return rows


def priced_step(steps: int = 6000) -> float:
    """Median step of the default over LinUCB's at (16, 32) where a cost is metered and priced at 0.2, in turns."""
    rng, prices = np.random.default_rng(0), [1.0, -0.2]
    policies = [POLICIES[name](n_arms=16, dim=32, channels=2) for name in (DEFAULT_POLICY, "LinUCB")]
    times: list[list[int]] = [[], []]
    for x in rng.normal(size=(steps, 32)):
        outcomes, uniform = rng.random((16, 2)), rng.random()
        for policy, spent in zip(policies, times, strict=True):
            started = time.perf_counter_ns()
            arm = draw(policy.probabilities(x, prices=prices), uniform)
            policy.learn(x, arm, outcomes[arm])
            spent.append(time.perf_counter_ns() - started)
    return statistics.median(times[0]) / statistics.median(times[1])


def step_time(steps: int = 6000) -> dict[str, Any]:
    """Microseconds at (16, 32), the default and LinUCB in turns: a policy's two verbs and a router's decide."""
    rng = np.random.default_rng(0)
    slopes, arms = rng.normal(size=(32, 16)) / 32**0.5, [Arm(id=f"arm{a}") for a in range(16)]
    names = (DEFAULT_POLICY, "LinUCB")
    policies = {name: POLICIES[name](n_arms=16, dim=32) for name in names}
    routers = {name: Router(arms=arms, context=32, policy=name) for name in names}
    times: dict[str, list[int]] = {f"{name} {verb}": [] for name in names for verb in ("select", "update", "decide")}
    for step, x in enumerate(rng.normal(size=(steps, 32))):
        rewards, uniform = 0.5 + 0.1 * x @ slopes + 0.3 * rng.normal(size=16), rng.random()
        for name in names:
            marks = [time.perf_counter_ns()]
            arm = draw(policies[name].probabilities(x), uniform)
            marks.append(time.perf_counter_ns())
            policies[name].learn(x, arm, rewards[[arm]])
            marks.append(time.perf_counter_ns())
            routers[name].decide(x, event_id=f"r-{step}")
            marks.append(time.perf_counter_ns())
            for verb, spent in zip(("select", "update", "decide"), np.diff(marks), strict=True):
                times[f"{name} {verb}"].append(int(spent))
    median = {name: statistics.median(spent) / 1e3 for name, spent in times.items()}
    ours, theirs = (median[f"{name} select"] + median[f"{name} update"] for name in names)
    decide = [median[f"{name} decide"] for name in names]
    rows = {"median_us": median, "step_over_LinUCB": ours / theirs, "decide_over_LinUCB": decide[0] / decide[1]}
    rows["longest_update_us"] = {name: max(times[f"{name} update"]) / 1e3 for name in names}
    rows["mean_update_us"] = {name: statistics.fmean(times[f"{name} update"]) / 1e3 for name in names}
    rows["priced_step_over_LinUCB"] = priced_step(steps)
    print(rows, file=sys.stderr)
    return rows


def main() -> None:
    """Print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    seeds = parser.parse_args().seeds
    folder = os.environ.get("BANDIT_ROUTER_DATA")
    document: dict[str, Any] = {"environment": environment(), "seeds": seeds}
    document |= {"flips": flips(seeds), "new_arms": new_arms(seeds)}
    document["noise_columns_loss"] = noise_columns(seeds, folder)
    document["useful_features"], document["step_time"] = useful_features(seeds), step_time()
    json.dump(document, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
