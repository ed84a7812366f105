"""Budgets side by side with the package paretobandit: spend, price cut and return, silent quality drop, new model.

In an environment of its own:

    pip install 'paretobandit==0.1.1' -e '.[text]'
    python benchmarks/paretobandit.py --seeds 20 > paretobandit.json

Both routers meet the same requests in the same order with the same 24 whitened text components, start cold, and know
the same list prices. ParetoBandit's own priors belong to another encoder and are not used. Its rows:

    paretobandit          as installed: static cost penalty 0.3, pacer fed by its own estimate of the cost
    paretobandit_free     static cost penalty 0, otherwise the same
    paretobandit_billed   static cost penalty 0 and, which its interface has no place for, the billed cost written into
                          its log before the reward is reported
    paretobandit_helped   the same, and our exploration (alpha 0.1 instead of its 0.01, which is tuned for its priors)

With --table k4 it runs on outcomes/paretobandit_val_k4 of the folder that BANDIT_ROUTER_DATA names.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from bandit_router.arrays import F64
from bandit_router.budgets.limits import Rate
from bandit_router.budgets.pacing import Budgets
from bandit_router.policies import DEFAULT_POLICY
from bandit_router.policies.monitor import DriftMonitor
from bandit_router.records.arms import Arm
from bandit_router.records.outcomes import Outcome
from bandit_router.routing.groups import Objective, PolicySpec
from bandit_router.routing.router import Router
from bandit_router.simulators.results import interval
from bandit_router.simulators.table import OutcomeTable, load_table

LIST_PRICES = {  # US dollars per million input and output tokens
    "meta-llama/llama-3.1-8b-instruct": (0.10, 0.10),
    "mistralai/mistral-large-2512": (0.50, 1.50),
    "google/gemini-2.5-flash": (0.30, 2.50),
    "google/gemini-2.5-pro": (1.25, 10.0),
}
OUTPUT_TOKENS = 600  # ParetoBandit's default estimate
CHEAP, MIDDLE, DEAR = "meta-llama/llama-3.1-8b-instruct", "mistralai/mistral-large-2512", "google/gemini-2.5-pro"
BUDGETS = (2.3e-4, 4.0e-4, 6.6e-4)
ALPHA, WINDOW = 0.1, 50
WATCHED = PolicySpec(name="LinUCB", settings={"alpha": ALPHA, "ridge": 0.2, "floor": 0.0}, monitor=DriftMonitor())


class Ours:
    """This package's router under a rate on the billed cost."""

    def __init__(
        self, arms: list[str], dim: int, budget: float, seed: int, policy: str | PolicySpec = DEFAULT_POLICY
    ) -> None:
        expected = {arm: Outcome(cost_usd=_list_cost(arm)) for arm in LIST_PRICES}
        self.budgets = Budgets(limits=[Rate(name="rate", channel="cost_usd", per_request=budget)], expected=expected)
        self.router = Router(
            arms=[Arm(id=arm) for arm in arms],
            context=dim,
            objective=Objective(channels=("quality", "cost_usd")),
            budgets=self.budgets,
            key=str(seed).encode(),
            policy=policy,
        )

    def decide(self, x: F64, step: int) -> str:
        """Name the arm of a request."""
        return str(self.router.decide(x, event_id=str(step)).arm)

    def report(self, step: int, quality: float | None, cost: float) -> None:
        """Report its bill, and its reward unless that is missing."""
        self.router.observe(str(step), Outcome(quality=quality, cost_usd=cost))

    def reprice(self, arm: str, factor: float) -> None:
        """Tell of a changed list price."""
        self.budgets.reprice(arm, "cost_usd", factor)

    def add(self, arm: str) -> None:
        """Add an arm."""
        self.router.add_arm(Arm(id=arm), like=CHEAP)


class Theirs:
    """paretobandit.BanditRouter with its pacer."""

    def __init__(
        self,
        arms: list[str],
        dim: int,
        budget: float,
        seed: int,
        *,
        penalty: float,
        billed: bool,
        **settings: float,
    ) -> None:
        from pareto_bandit import BanditRouter
        from pareto_bandit.budget_pacer import BudgetPacer

        class Vectors:
            dimension, bias_index = dim, dim - 1

            def extract_features(self, x: F64) -> F64:
                return x

        self.router = BanditRouter.create(
            model_registry={arm: _registry(arm, 1.0) for arm in arms},
            priors="none",
            feature_service=Vectors(),
            budget_pacer=BudgetPacer(budget),
            cost_penalty=penalty,
            bandit_seed=seed,
            **settings,
        )
        self.billed, self.logs = billed, {}

    def decide(self, x: F64, step: int) -> str:
        """Name the arm of a request."""
        arm, self.logs[step] = self.router.route(np.append(x[1:], x[0]))
        return arm

    def report(self, step: int, quality: float | None, cost: float) -> None:
        """Report its bill, and its reward unless that is missing."""
        log = self.logs.pop(step)
        if quality is not None:
            log.cost_usd = cost if self.billed else log.cost_usd
            self.router.process_feedback(log.request_id, quality)

    def reprice(self, arm: str, factor: float) -> None:
        """Tell of a changed list price."""
        prices = self.router.registry[arm]
        fields = ("input_cost_per_m", "output_cost_per_m")
        self.router.update_model_pricing(arm, **{field: prices[field] * factor for field in fields})

    def add(self, arm: str) -> None:
        """Add an arm."""
        self.router.register_model(arm, **_registry(arm, 1.0))


def _list_cost(arm: str) -> float:
    return (LIST_PRICES[arm][0] * 100 + LIST_PRICES[arm][1] * OUTPUT_TOKENS) / 1e6


def _registry(arm: str, factor: float) -> dict[str, Any]:
    return {"input_cost_per_m": LIST_PRICES[arm][0] * factor, "output_cost_per_m": LIST_PRICES[arm][1] * factor}


def routers() -> dict[str, Any]:
    """Constructors by name."""
    return {
        "ours": Ours,
        "ours_linucb": lambda *a, **k: Ours(*a, **k, policy=WATCHED),
        "paretobandit": lambda *a, **k: Theirs(*a, **k, penalty=0.3, billed=False),
        "paretobandit_free": lambda *a, **k: Theirs(*a, **k, penalty=0.0, billed=False),
        "paretobandit_billed": lambda *a, **k: Theirs(*a, **k, penalty=0.0, billed=True),
        "paretobandit_helped": lambda *a, **k: Theirs(*a, **k, penalty=0.0, billed=True, alpha=ALPHA),
    }


def contexts(table: OutcomeTable) -> F64:
    """A constant and 24 whitened components of each prompt, fitted on the first 512."""
    features = table.features
    if features is None:
        from bandit_router.encoding.text import fit_pca, wordllama

        vectors = wordllama(table.prompts or ())
        features = fit_pca(vectors[:512])(vectors)
    return np.concatenate([np.ones((len(features), 1)), features], axis=1)


def play(
    table: OutcomeTable, x: F64, make: Any, seed: int, budget: float, *, missing: float = 0.0, event: str | None = None
) -> dict[str, F64]:
    """One stream of one pass.

    Events: "prices" (dear arm 10 x cheaper in the middle third), "drop" (middle arm 18 % worse after the first third),
    "new" (middle arm added after the first third).
    """
    rng = np.random.default_rng(seed)
    order, unrewarded = rng.permutation(len(x)), rng.random(len(x)) < missing
    arms = [arm for arm in table.arms if event != "new" or arm != MIDDLE]
    router = make(arms, x.shape[1], budget, seed)
    third, cut, worse = len(x) // 3, 1.0, 1.0
    log = np.zeros((len(x), 3))
    for step, query in enumerate(order):
        if event == "prices" and step in (third, 2 * third):
            factor = 0.1 if step == third else 10.0
            cut *= factor
            router.reprice(DEAR, factor)
        if event == "new" and step == third:
            router.add(MIDDLE)
        if event == "drop" and step == third:
            worse = 0.82
        arm = router.decide(x[query], step)
        quality, cost = table.outcomes[query, table.arms.index(arm), :2]
        quality *= worse if arm == MIDDLE else 1.0
        cost *= cut if arm == DEAR else 1.0
        router.report(step, None if unrewarded[step] else float(quality), float(cost))
        log[step] = quality, cost / budget, arm == MIDDLE
    return {"quality": log[:, 0], "spend": log[:, 1], "middle": log[:, 2]}


def thirds(values: F64) -> list[float]:
    """Means of the three phases."""
    n = len(values) // 3
    return [float(values[i * n : (i + 1) * n].mean()) for i in range(3)]


def steps_until(share: F64, reached: Any) -> float:
    """Steps after the first third until the middle arm's trailing share satisfies `reached`, else all there were."""
    third = len(share) // 3
    trailing = np.convolve(share, np.ones(WINDOW) / WINDOW, mode="full")[: len(share)]
    hits = np.flatnonzero(reached(trailing[third:], trailing[third - 1]))
    return float(hits[0]) if len(hits) else float(len(share) - third)


def experiment(table: OutcomeTable, name: str, seeds: int) -> dict[str, Any]:
    """All experiments of one table for one router."""
    x, make, result = contexts(table), routers()[name], {}
    for budget in BUDGETS:
        for missing in (0.0, 0.2):
            runs = [play(table, x, make, seed, budget, missing=missing) for seed in range(seeds)]
            result[f"budget {budget:g}, {missing:.0%} of rewards missing"] = {
                "quality": interval([r["quality"].mean() for r in runs]),
                "spend_over_target": interval([r["spend"].mean() for r in runs]),
                "largest_spend_over_target": max(float(r["spend"].mean()) for r in runs),
            }
        print(f"{name}: budget {budget:g} done", file=sys.stderr)
    for budget in BUDGETS:
        runs = [play(table, x, make, seed, budget, event="prices") for seed in range(seeds)]
        result[f"budget {budget:g}, dear arm 10 x cheaper in the middle third"] = {
            "quality_by_third": np.mean([thirds(r["quality"]) for r in runs], axis=0).tolist(),
            "spend_over_target_by_third": np.mean([thirds(r["spend"]) for r in runs], axis=0).tolist(),
        }
    budget, third = BUDGETS[-1], len(x) // 3
    runs = [play(table, x, make, seed, budget, event="drop") for seed in range(seeds)]
    result[f"budget {budget:g}, middle arm 18 % worse after the first third"] = {
        "share_before": interval([r["middle"][third - WINDOW : third].mean() for r in runs]),
        "steps_until_its_share_is_halved": interval(
            [steps_until(r["middle"], lambda now, before: now <= before / 2) for r in runs]
        ),
        "quality_afterwards": interval([r["quality"][third:].mean() for r in runs]),
        "spend_over_target": interval([r["spend"].mean() for r in runs]),
    }
    runs = [play(table, x, make, seed, budget, event="new") for seed in range(seeds)]
    result[f"budget {budget:g}, middle arm added after the first third"] = {
        "steps_until_its_share_is_a_quarter": interval(
            [steps_until(r["middle"], lambda now, _: now >= 0.25) for r in runs]
        ),
        "share_in_the_last_third": interval([r["middle"][2 * third :].mean() for r in runs]),
        "quality_afterwards": interval([r["quality"][third:].mean() for r in runs]),
        "spend_over_target": interval([r["spend"].mean() for r in runs]),
    }
    return result


def main() -> None:
    """Print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--table", choices=("llm", "k4"), default="llm")
    parser.add_argument("--routers", nargs="+", default=list(routers()))
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)  # ParetoBandit warns at every relaxed ceiling
    if arguments.table == "llm":
        table = load_table("models_llm")
    else:
        table = load_table(Path(os.environ["BANDIT_ROUTER_DATA"]) / "outcomes/paretobandit_val_k4")
    document = {name: experiment(table, name, arguments.seeds) for name in arguments.routers}
    print(
        json.dumps({"table": table.name, "seeds": arguments.seeds, "requests": len(table.tasks), "routers": document})
    )


if __name__ == "__main__":
    main()
