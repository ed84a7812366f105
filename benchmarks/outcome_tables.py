"""Every policy on every full-information table: utility against the best fixed arm, random and the oracle.

    python -m benchmarks.outcome_tables > results.json
    python -m benchmarks.markdown < results.json

Runs the shipped table and, where BANDIT_ROUTER_DATA names the folder of the development data, the sets below it. One
shuffled pass a seed; cost is priced at 0.2 of the dearest arm's mean where it is metered. Contexts are the task label
and, where a table has them, features. VW and River must be installed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

from bandit_router.policies import POLICIES
from bandit_router.simulators.configs import PolicyConfig, TableConfig
from bandit_router.simulators.experiment import run_scenario
from bandit_router.simulators.scenario import Scenario
from bandit_router.simulators.table import load_table

SEEDS = {"models_llm": 10, "paretobandit_val_k4": 10, "routerbench_zs": 5, "adapters7": 4, "mmlu_pro": 4}
PRICES = {"cost_usd": 0.2}
LARGE = 5000  # queries; BetaThompson takes 3 to 5 ms a decision with 7 to 28 arms


def tables() -> list[str]:
    """The shipped table, and the development tables that are there."""
    folder = os.environ.get("BANDIT_ROUTER_DATA")
    if not folder:
        print("BANDIT_ROUTER_DATA is not set: the shipped table only", file=sys.stderr)
        return ["models_llm"]
    return ["models_llm", *(str(Path(folder) / "outcomes" / name) for name in list(SEEDS)[1:])]


def run(table: str, jobs: int) -> dict[str, object]:
    """Every policy on one table."""
    name = Path(table).name
    loaded = load_table(table)
    names = list(POLICIES)
    if len(loaded.tasks) > LARGE:
        names.remove("BetaThompson")
    scenario = Scenario(
        name=name,
        environment=TableConfig(table=table),
        policies=tuple(PolicyConfig(name=policy) for policy in names),
        prices=PRICES if "cost_usd" in loaded.channels else {},
        seeds=SEEDS[name],
    )
    started = time.perf_counter()
    document = run_scenario(scenario, jobs=jobs).document
    print(f"{name}: {time.perf_counter() - started:.0f} s", file=sys.stderr)
    return document


def main() -> None:
    """Print {"tables": [results document, ...]}."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1, help="processes; results do not depend on it")
    jobs = parser.parse_args().jobs
    json.dump({"tables": [run(table, jobs) for table in tables()]}, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
