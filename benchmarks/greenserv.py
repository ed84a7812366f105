"""GreenServ's setting: its LinUCB and Thompson sampling against ours on its published outcomes.

    export BANDIT_ROUTER_DATA=...    # the folder with outcomes/greenserv
    python benchmarks/greenserv.py --seeds 20 > greenserv.json
    python benchmarks/greenserv.py --export pool3    # an outcome table for `bandit-router sweep`

Full-information sub-pools (3, 4, 5 models; all outcomes known) are streamed; on the log of the uniform-random policy
over 16 models (propensity 1/16) a policy is judged by rejection replay (Li et al. 2011) while it learns, and what it
has learned after half of the log by IPS on the other half. Reward as GreenServ's at lambda 0.5, embeddings WordLlama's
(GreenServ: MiniLM). A fifth of the queries is set apart for warm starts: before the stream begins the policies marked
warm learn its rows of the random log (5 of the 16 models a query), those marked table what every model of the
sub-pool made of it, as a user knows it who has tried the models on an evaluation set. Every policy is judged on the
other four fifths.

Regret is against the best model of each request (GreenServ's comparator) and against the best model of each task, which
is what the task label can tell.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from bandit_router.arrays import F64, Index
from bandit_router.encoding.categories import ReadabilityBin, SemanticCluster
from bandit_router.encoding.contexts import Request
from bandit_router.policies import DEFAULT_POLICY, policy_class
from bandit_router.policies.base import Policy
from bandit_router.policies.distributions import draw
from bandit_router.policies.lints import LinTS
from bandit_router.simulators.results import interval

POOLS = {
    3: ("gemma-3-12b", "llama-3.1-8b", "qwen2.5-3b"),
    4: ("gemma-3-12b", "llama-3.1-8b", "qwen2.5-3b", "qwen2.5-7b"),
    5: ("gemma-3-12b", "llama-3.1-8b", "qwen2.5-3b", "qwen2.5-7b", "mistral-7b"),
}
CHEAPEST = "qwen2.5-0.5b"  # least energy of the 16


class CodedThompson(LinTS):
    """GreenServ's Thompson sampling as coded: sigma^2 B^-1, though B holds x x' / sigma^2: 1/sigma narrower."""

    def _rule(self, steps: int) -> Any:
        rule = super()._rule(steps)
        return rule._replace(alpha=rule.alpha * self.noise)


@dataclass(frozen=True)
class Contender:
    """A policy with its features, and what it learns first of the queries that were set apart."""

    features: str
    make: Callable[[int, int], Policy]
    prior: Literal["none", "log", "table"] = "none"


def _named(name: str, **settings: float) -> Callable[[int, int], Policy]:
    return lambda arms, dim: policy_class(name)(n_arms=arms, dim=dim, **settings)


LINUCB = _named("LinUCB", alpha=0.1, ridge=0.05, floor=0.0)
CONTENDERS = {
    "greenserv_linucb": Contender("coded", LINUCB),
    "greenserv_linucb_warm": Contender("coded", LINUCB, prior="log"),
    "greenserv_thompson_as_coded": Contender(
        "coded", lambda k, d: CodedThompson(n_arms=k, dim=d, noise=0.25, ridge=0.03125)
    ),
    "greenserv_thompson_fixed": Contender("distinct", _named("LinTS", noise=0.25, ridge=0.03125)),
    "greenserv_linucb_table": Contender("coded", LINUCB, prior="table"),
    "linucb_task": Contender("task", LINUCB),
    "linucb": Contender("task", _named("LinUCB")),
    "linucb_warm": Contender("task", _named("LinUCB"), prior="log"),
    "linucb_table": Contender("task", _named("LinUCB"), prior="table"),
    "lints": Contender("task", _named("LinTS")),
    "lints_warm": Contender("task", _named("LinTS"), prior="log"),
    "default": Contender("task", _named(DEFAULT_POLICY)),
    "default_warm": Contender("task", _named(DEFAULT_POLICY), prior="log"),
    "default_table": Contender("task", _named(DEFAULT_POLICY), prior="table"),
}


@dataclass(frozen=True)
class Data:
    """The published outcomes: reward by query and model (NaN unknown), task by query, and the random log."""

    models: tuple[str, ...]
    prompts: tuple[str, ...]
    task: Index
    reward: F64
    log: dict[str, Any]


@cache
def data() -> Data:
    """Read outcomes/greenserv."""
    folder = Path(os.environ["BANDIT_ROUTER_DATA"]) / "outcomes/greenserv"
    queries = pl.read_parquet(folder / "queries.parquet").sort("query_id")
    cells = pl.read_parquet(folder / "cells.parquet").with_columns(pl.col("arm").cast(pl.String))
    log = pl.read_parquet(folder / "logged_random.parquet").with_columns(pl.col("arm").cast(pl.String))
    models = tuple(sorted(cells.get_column("arm").unique()))
    number = {model: i for i, model in enumerate(models)}
    reward = np.full((len(queries), len(models)), np.nan)
    reward[cells["query_id"].to_numpy(), [number[arm] for arm in cells["arm"]]] = cells["reward"].to_numpy()
    _, task = np.unique(queries.get_column("task").cast(pl.String).to_numpy(), return_inverse=True)
    logged = {
        "query": log["query_id"].to_numpy(),
        "arm": np.array([number[arm] for arm in log["arm"]]),
        "reward": log["reward"].to_numpy(),
        "optimal": log["optimal_reward"].to_numpy(),
    }
    return Data(models, tuple(queries.get_column("prompt")), task, reward, logged)


@cache
def parts() -> tuple[F64, F64, F64]:
    """What does not depend on the order: task columns, readability columns (distinct), embeddings."""
    from bandit_router.encoding.text import wordllama

    known = data()
    bins = np.array([ReadabilityBin()(Request(text=prompt))[:-1] for prompt in known.prompts])
    return np.eye(known.task.max() + 1)[known.task], bins, wordllama(known.prompts)


def features(kind: str, order: Index) -> F64:
    """Contexts of all queries, shape (queries, dim), for a stream in this order."""
    tasks, bins, vectors = parts()
    one = np.ones((len(tasks), 1))
    if kind == "task":
        return np.hstack([one, tasks])
    by_text = {str(query): vectors[query] for query in order}
    encode = SemanticCluster(3, embed=lambda texts: np.array([by_text[text] for text in texts]))
    clusters = np.zeros((len(tasks), 3))
    for query in order:
        encode.update(Request(text=str(query)))
        clusters[query] = encode(Request(text=str(query)))[:-1]
    return np.hstack([one, tasks, clusters, bins[:, :-1] if kind == "coded" else bins])


def warm_up(policy: Policy, prior: str, x: F64, apart: Index, models: Index) -> None:
    """Learn what is known of the queries that were set apart: the random log's rows, or the whole table."""
    if prior == "table":
        for query in apart:
            for arm, reward in enumerate(data().reward[query, models]):
                policy.learn(x[query], arm, [reward])
    if prior != "log":
        return
    log, number = data().log, {int(model): i for i, model in enumerate(models)}
    for row in np.flatnonzero(np.isin(log["query"], apart)):
        arm = number.get(int(log["arm"][row]))
        if arm is not None:
            policy.learn(x[log["query"][row]], arm, [log["reward"][row]])


def stream(contender: Contender, models: Index, seed: int) -> F64:
    """Rewards of one pass over the queries whose outcome is known for all these models, four fifths of them."""
    known, rng = data(), np.random.default_rng(seed)
    apart, order = _split(np.flatnonzero(np.isfinite(known.reward[:, models]).all(axis=1)), rng)
    uniforms, x = rng.random(len(order)), features(contender.features, np.concatenate([apart, order]))
    policy = contender.make(len(models), x.shape[1])
    warm_up(policy, contender.prior, x, apart, models)
    rewards = known.reward[:, models]
    got = np.empty(len(order))
    for step, query in enumerate(order):
        p = policy.probabilities(x[query])
        arm = draw(p, uniforms[step])
        got[step] = rewards[query, arm]
        policy.learn(x[query], arm, [got[step]], propensity=min(float(p[arm]), 1.0))
    return got


def _split(queries: Index, rng: np.random.Generator) -> tuple[Index, Index]:
    order = rng.permutation(queries)
    return order[: len(order) // 5], order[len(order) // 5 :]


def sub_pool(size: int, seeds: int, names: Sequence[str]) -> dict[str, Any]:
    """Mean regret per request of every contender and reference on one sub-pool."""
    known = data()
    models = np.array([known.models.index(model) for model in POOLS[size]])
    whole = np.flatnonzero(np.isfinite(known.reward[:, models]).all(axis=1))
    streams = [_split(whole, np.random.default_rng(seed))[1] for seed in range(seeds)]
    tables = [known.reward[order][:, models] for order in streams]
    of_task = [known.task[order] for order in streams]
    best = {t: int(known.reward[whole][known.task[whole] == t][:, models].mean(axis=0).argmax()) for t in range(5)}
    per_task = [
        table[np.arange(len(table)), [best[t] for t in tasks]].sum()
        for table, tasks in zip(tables, of_task, strict=True)
    ]
    oracle = [table.max(axis=1).sum() for table in tables]
    totals = {
        "random": [table.mean(axis=1).sum() for table in tables],
        "best_fixed": [table.sum(axis=0).max() for table in tables],
        "cheapest": [table[:, POOLS[size].index("qwen2.5-3b")].sum() for table in tables],
        "best_per_task": per_task,
        **{name: [stream(CONTENDERS[name], models, seed).sum() for seed in range(seeds)] for name in names},
    }
    print(f"pool of {size} done", file=sys.stderr)
    return {
        "requests": len(streams[0]),
        "policies": _compare(totals, oracle, per_task),
        "supervised_regret_over_best_per_task": supervised(models, best),
    }


def supervised(models: Index, best: dict[int, int]) -> dict[str, float]:
    """Regret of ridge regression on all outcomes, five-fold, over that of each task's best model; 24 text components.

    What the features could tell with everything known: below 1, there is more to learn than the best model of a task.
    """
    from bandit_router.encoding.text import fit_pca

    known, (tasks, bins, vectors) = data(), parts()
    rows = np.flatnonzero(np.isfinite(known.reward[:, models]).all(axis=1))
    length = np.log1p([[len(prompt)] for prompt in known.prompts])
    text = np.hstack([tasks, bins, (length - length.mean()) / length.std(), fit_pca(vectors[:512])(vectors)])
    rewards = known.reward[rows][:, models]
    per_task = rewards[np.arange(len(rows)), [best[task] for task in known.task[rows]]].sum()
    regret = {}
    for name, x in (("task", tasks[rows]), ("task and text", text[rows])):
        got = 0.0
        for fold in np.array_split(np.random.default_rng(0).permutation(len(rows)), 5):
            rest = np.setdiff1d(np.arange(len(rows)), fold)
            gram = x[rest].T @ x[rest] + 10.0 * np.eye(x.shape[1])
            choice = (x[fold] @ np.linalg.solve(gram, x[rest].T @ rewards[rest])).argmax(axis=1)
            got += rewards[fold, choice].sum()
        regret[name] = float((rewards.max(axis=1).sum() - got) / (rewards.max(axis=1).sum() - per_task))
    return regret


def _compare(totals: dict[str, list[float]], oracle: list[float], per_task: list[float]) -> dict[str, Any]:
    base = np.mean(np.subtract(oracle, totals["greenserv_linucb"]))
    return {
        name: {
            "regret_to_oracle": interval(np.subtract(oracle, values)),
            "regret_to_best_per_task": interval(np.subtract(per_task, values)),
            "regret_to_oracle_over_greenserv_linucb": float(np.mean(np.subtract(oracle, values)) / base),
        }
        for name, values in totals.items()
    }


def replay(contender: Contender, seed: int) -> dict[str, float]:
    """Rejection replay over the random log on four fifths of the queries, and IPS of what half of it has taught."""
    known, rng = data(), np.random.default_rng(seed)
    log, models = known.log, np.arange(len(known.models))
    apart, kept = _split(np.arange(len(known.prompts)), rng)
    rows = rng.permutation(np.flatnonzero(np.isin(log["query"], kept)))
    uniforms = rng.random(len(rows))
    x = features(contender.features, np.concatenate([apart, kept]))
    policy = contender.make(len(models), x.shape[1])
    warm_up(policy, contender.prior, x, apart, models)
    regret, weighted, half = [], [], len(rows) // 2
    for step, row in enumerate(rows):
        context, arm = x[log["query"][row]], int(log["arm"][row])
        if step == half:
            weighted = [_ips(policy, x, row_, log) for row_ in rows[half:]]
        p = policy.probabilities(context)
        if draw(p, uniforms[step]) == arm:
            regret.append(log["optimal"][row] - log["reward"][row])
            policy.learn(context, arm, [log["reward"][row]], propensity=min(float(p[arm]), 1.0))
    return {"accepted": len(regret), "regret": float(np.mean(regret)), "ips_reward": float(np.mean(weighted))}


def _ips(policy: Policy, x: F64, row: int, log: dict[str, Any]) -> float:
    return float(policy.probabilities(x[log["query"][row]])[log["arm"][row]] * 16 * log["reward"][row])


def random_log(seeds: int, names: Sequence[str]) -> dict[str, Any]:
    """The contenders on the 16-model log, where no whole table is known, with references worked out from the log."""
    known = data()
    log, means = known.log, _log_means(known)
    fixed = [log["reward"][log["arm"] == arm].mean() for arm in range(16)]
    share = np.bincount(known.task[log["query"]]) / len(log["query"])
    oracle = float(log["optimal"].mean())
    rewards = {
        "random": float(log["reward"].mean()),
        "best_fixed": float(max(fixed)),
        "cheapest": float(fixed[known.models.index(CHEAPEST)]),
        "best_per_task": float((share * means.max(axis=1)).sum()),
    }
    references = {name: {"reward": value, "regret_per_request": oracle - value} for name, value in rewards.items()}
    result = {}
    for name in names:
        if CONTENDERS[name].prior == "table":
            continue
        runs = [replay(CONTENDERS[name], seed) for seed in range(seeds)]
        result[name] = {
            "accepted": float(np.mean([run["accepted"] for run in runs])),
            "regret_per_request": interval([run["regret"] for run in runs]),
            "ips_reward_after_half": interval([run["ips_reward"] for run in runs]),
        }
        print(f"log: {name} done", file=sys.stderr)
    base = result["greenserv_linucb"]["regret_per_request"]["mean"]
    for row in result.values():
        row["regret_over_greenserv_linucb"] = row["regret_per_request"]["mean"] / base
    return {"oracle_reward": oracle, "references": references, "policies": result}


def _log_means(known: Data) -> F64:
    """Mean logged reward by task and model; the best of a task is chosen on the same rows, so a little too good."""
    log, means = known.log, np.zeros((5, 16))
    for task in range(5):
        for arm in range(16):
            rows = (known.task[log["query"]] == task) & (log["arm"] == arm)
            means[task, arm] = log["reward"][rows].mean()
    return means


def export(folder: Path) -> None:
    """The pool of three on the four exact-match tasks as an outcome table; energy_j is joules per token."""
    source = Path(os.environ["BANDIT_ROUTER_DATA"]) / "outcomes/greenserv"
    cells = pl.read_parquet(source / "cells.parquet").with_columns(pl.col("arm").cast(pl.String))
    cells = cells.filter(pl.col("arm").is_in(POOLS[3]) & pl.col("accuracy").is_not_null())
    whole = cells.group_by("query_id").len().filter(pl.col("len") == 3).select("query_id")
    folder.mkdir(parents=True, exist_ok=True)
    named = cells.join(whole, on="query_id").sort("query_id", "arm")
    named.select("query_id", "arm", quality="accuracy", energy_j="joules_per_token").write_parquet(
        folder / "outcomes.parquet"
    )
    named.select("query_id", pl.col("task").cast(pl.String)).unique().sort("query_id").write_parquet(
        folder / "queries.parquet"
    )


def main() -> None:
    """Print one JSON document, or export the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--contenders", nargs="+", choices=list(CONTENDERS), default=list(CONTENDERS))
    parser.add_argument("--export", type=Path, metavar="FOLDER")
    arguments = parser.parse_args()
    if arguments.export is not None:
        export(arguments.export)
        return
    names = list(dict.fromkeys(["greenserv_linucb", *arguments.contenders]))  # the others are compared with it
    pools = {f"pool of {size}": sub_pool(size, arguments.seeds, names) for size in POOLS}
    document = {
        "seeds": arguments.seeds,
        "default_policy": DEFAULT_POLICY,
        **pools,
        "log of 16": random_log(arguments.seeds, names),
    }
    print(json.dumps(document))


if __name__ == "__main__":
    main()
