"""Derive the shipped table `models/llm` from the PyPI package paretobandit 0.1.1 (Apache-2.0).

    pip download --no-deps paretobandit==0.1.1
    python benchmarks/data/derive_models_llm.py paretobandit-0.1.1-py3-none-any.whl

Reads `pareto_bandit/data/examples/val.jsonl` from the wheel file or from a folder it was unpacked in. Writes
queries, outcomes and features as Parquet, and `about.json` with origin and check figures (also on stdout).
Numbers and labels only: no prompt leaves the source. Needs the extra `text` for the features.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from bandit_router.encoding.text import fit_pca, wordllama

SOURCE = "pareto_bandit/data/examples/val.jsonl"
SOURCE_SHA256 = "9590556ee832bb8e27b0e838eb4fd6b656e69e39c99ef067fc6379abc7f168ef"
OUT = Path(__file__).parents[2] / "bandit_router/simulators/tables/models_llm"
FITTED_ON = 512
COMPONENTS = 24

ORIGIN = {
    "table": "models/llm",
    "origin": f"PyPI package paretobandit 0.1.1, file {SOURCE}, sha256 {SOURCE_SHA256}",
    "author": "Annette Taberner-Miller",
    "licence": "Apache-2.0; see NOTICE at the root of this project",
    "paper": "ParetoBandit: Budget-Paced Adaptive Routing for Non-Stationary LLM Serving",
    "derived_by": "benchmarks/data/derive_models_llm.py",
    "quality": "score of an LLM judge (DeepSeek-R1 with a rubric), 0..1; the source's `reward`",
    "cost_usd": "US dollars for that answer; the source's `cost`",
    "not_metered": ["latency_s", "input_tokens", "output_tokens", "energy_j"],
    "task": "the source's `source`: name of the benchmark that the prompt is from",
    "features": (
        f"{COMPONENTS} whitened principal components of the prompt's WordLlama 0.4.0 embedding (l2_supercat, "
        f"256 dimensions, unit length), fitted on the first {FITTED_ON} prompts, rounded to 4 decimals"
    ),
    "order": "source order, in which the tasks are mixed",
    "prompts": "not shipped",
}


def main() -> None:
    """Derive, write, print the description."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="the wheel file, or the folder it was unpacked in")
    parser.add_argument("--out", type=Path, default=OUT, help="default: the folder inside the package")
    arguments = parser.parse_args()
    records = read(arguments.source)
    tables = {"queries": queries(records), "outcomes": outcomes(records), "features": features(records)}
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        table.write_parquet(arguments.out / f"{name}.parquet", compression="zstd", compression_level=19)
        print(name, table.shape, (arguments.out / f"{name}.parquet").stat().st_size, "bytes", file=sys.stderr)
    about = json.dumps({**ORIGIN, "check_figures": check_figures(**tables)}, indent=2)
    (arguments.out / "about.json").write_text(about + "\n", encoding="utf-8")
    print(about)


def read(source: Path) -> list[dict[str, Any]]:
    """The records of the source file, in order; refuses any other version of it."""
    root = zipfile.Path(source) if source.is_file() else source
    content = (root / SOURCE).read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != SOURCE_SHA256:
        sys.exit(f"{SOURCE} must have sha256 {SOURCE_SHA256} (paretobandit 0.1.1), got {found}")
    return [json.loads(line) for line in content.splitlines()]


def queries(records: Sequence[dict[str, Any]]) -> pl.DataFrame:
    """One row per prompt, in source order."""
    tasks = [record["source"] for record in records]
    return pl.DataFrame({"query_id": np.arange(len(tasks), dtype=np.int32), "task": tasks})


def outcomes(records: Sequence[dict[str, Any]]) -> pl.DataFrame:
    """One row per prompt and arm, by prompt and then in the source's arm order."""
    rows = [
        (query, arm, record["arms"][arm]["reward"], record["arms"][arm]["cost"], None, None, None, None)
        for query, record in enumerate(records)
        for arm in records[0]["arms"]
    ]
    schema = {
        "query_id": pl.Int32,
        "arm": pl.String,
        "quality": pl.Float32,
        "cost_usd": pl.Float64,
        "latency_s": pl.Float32,
        "input_tokens": pl.Int32,
        "output_tokens": pl.Int32,
        "energy_j": pl.Float32,
    }
    return pl.DataFrame(rows, schema=schema, orient="row")


def features(records: Sequence[dict[str, Any]]) -> pl.DataFrame:
    """Whitened components of every prompt; rounding hides platform differences in the last bits."""
    vectors = wordllama([record["prompt"] for record in records])
    components = fit_pca(vectors[:FITTED_ON], components=COMPONENTS)(vectors).round(4).astype(np.float32)
    columns = {f"f{column}": components[:, column] for column in range(COMPONENTS)}
    return pl.DataFrame({"query_id": np.arange(len(records), dtype=np.int32), **columns})


def check_figures(queries: pl.DataFrame, outcomes: pl.DataFrame, features: pl.DataFrame) -> dict[str, Any]:
    """What a reader of the table can recompute; every mean in float64, queries weighing the same."""
    arms = outcomes["arm"].unique(maintain_order=True).to_list()
    quality = outcomes["quality"].to_numpy().astype(np.float64).reshape(len(queries), len(arms))
    cost = outcomes["cost_usd"].to_numpy().reshape(quality.shape)
    tasks = queries["task"].to_numpy()
    per_task = sum(quality[tasks == task].mean(axis=0).max() * (tasks == task).sum() for task in np.unique(tasks))
    best, best_quality = int(quality.mean(axis=0).argmax()), quality.max(axis=1)
    cheapest = np.where(quality == best_quality[:, None], cost, np.inf).min(axis=1)
    return {
        "queries": len(queries),
        "arms": arms,
        "rows": len(outcomes),
        "tasks": len(np.unique(tasks)),
        "mean_quality": dict(zip(arms, quality.mean(axis=0).round(9).tolist(), strict=True)),
        "mean_cost_usd": dict(zip(arms, cost.mean(axis=0).round(12).tolist(), strict=True)),
        "best_fixed": {"arm": arms[best], "quality": round(quality.mean(axis=0)[best], 9)},
        "best_per_task": {"quality": round(per_task / len(tasks), 9)},
        "oracle": {"quality": round(best_quality.mean(), 9), "cost_usd": round(cheapest.mean(), 12)},
        "uniform_random": {"quality": round(quality.mean(), 9), "cost_usd": round(cost.mean(), 12)},
        "sha256_of_values": digest(queries, outcomes, features),
    }


def digest(queries: pl.DataFrame, outcomes: pl.DataFrame, features: pl.DataFrame) -> str:
    """SHA-256 over the labels (tasks, arms; line feed after each), then quality, cost, features as bytes."""
    total = hashlib.sha256()
    for label in (*queries["task"], *outcomes["arm"]):
        total.update(f"{label}\n".encode())
    total.update(outcomes["quality"].to_numpy().astype("<f4").tobytes())
    total.update(outcomes["cost_usd"].to_numpy().astype("<f8").tobytes())
    total.update(np.ascontiguousarray(features.drop("query_id").to_numpy(), dtype="<f4").tobytes())
    return total.hexdigest()


if __name__ == "__main__":
    main()
