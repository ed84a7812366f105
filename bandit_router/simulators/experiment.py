"""Run a scenario: every policy on every seed, over processes, into one results document."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from bandit_router.policies import DEFAULT_POLICY
from bandit_router.policies.base import F64
from bandit_router.simulators.environment import Environment
from bandit_router.simulators.results import LEVEL, interval, policy_result, reference_result
from bandit_router.simulators.run import Reference, Trajectory, checkpoints, reference, simulate
from bandit_router.simulators.scenario import PolicyConfig, Scenario

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Experiment:
    """A finished scenario.

    Attributes:
        document: the results, as written by `simulate --json`.
        steps: steps at which curves are kept. curves: regret against the best fixed arm by policy label,
            shape (seeds, checkpoints).
    """

    document: dict[str, Any]
    steps: np.ndarray[Any, Any]
    curves: dict[str, F64]

    def bands(self) -> dict[str, tuple[F64, F64, F64]]:
        """Mean, lower and upper end of the 95 % interval of every curve."""
        bands = {}
        for label, curves in self.curves.items():
            points = [interval(column) for column in curves.T]
            ends = [p["ci95"] or [p["mean"], p["mean"]] for p in points]
            mean = np.array([p["mean"] for p in points])
            bands[label] = (mean, np.array([e[0] for e in ends]), np.array([e[1] for e in ends]))
        return bands


@dataclass(frozen=True)
class _Task:
    policy: PolicyConfig | None
    seed: int
    horizon: int
    weights: F64


def run_scenario(
    scenario: Scenario, folder: Path | None = None, *, jobs: int = 1, progress: Progress = lambda _: None
) -> Experiment:
    """Run a scenario.

    Args:
        scenario: what to run. folder: where its relative paths start.
        jobs: processes; results do not depend on it. Above 1, call it under `if __name__ == "__main__"`.
        progress: called with the policy's label after each finished stream.
    """
    environment = scenario.environment.build(scenario.name, folder)
    horizon = scenario.horizon_requests or environment.horizon
    weights = scenario.utility(environment).weights(environment.channels)
    tasks = [_Task(p, seed, horizon, weights) for p in (None, *scenario.policies) for seed in range(scenario.seeds)]
    done = dict(zip(tasks_ids(tasks), _execute(environment, tasks, jobs, progress), strict=True))
    references: list[Reference] = [done[None, seed] for seed in range(scenario.seeds)]
    results, curves = [], {}
    for policy in scenario.policies:
        runs: list[Trajectory] = [done[policy.title, seed] for seed in range(scenario.seeds)]
        results.append(
            policy_result(
                policy.title,
                default=policy.name == DEFAULT_POLICY and not policy.settings,
                trajectories=runs,
                references=references,
                arms=[arm.id for arm in environment.arms],
                channels=environment.channels,
                horizon=horizon,
            )
        )
        curves[policy.title] = np.array(
            [r.fixed[:, r.best_fixed] - t.curve for r, t in zip(references, runs, strict=True)]
        )
    document = {
        "scenario": scenario.name,
        "environment": environment.describe() | {"prices": scenario.prices, "level": LEVEL},
        "horizon": horizon,
        "seeds": scenario.seeds,
        "arms": [arm.id for arm in environment.arms],
        "policies": results,
        "references": reference_result(references, [arm.id for arm in environment.arms], horizon),
    }
    return Experiment(document, checkpoints(horizon), curves)


def tasks_ids(tasks: Sequence[_Task]) -> list[tuple[str | None, int]]:
    """What a task is called: the policy's label (None for the reference) and the seed."""
    return [(None if task.policy is None else task.policy.title, task.seed) for task in tasks]


_environment: Environment


def _initialise(environment: Environment) -> None:
    global _environment
    _environment = environment


def _run(task: _Task) -> Any:
    if task.policy is None:
        return reference(_environment, task.weights, seed=task.seed, horizon=task.horizon)
    policy = task.policy.build(_environment)
    return simulate(_environment, policy, task.weights, seed=task.seed, horizon=task.horizon)


def _execute(environment: Environment, tasks: Sequence[_Task], jobs: int, progress: Progress) -> list[Any]:
    labels = ["reference" if task.policy is None else task.policy.title for task in tasks]
    if jobs == 1:
        _initialise(environment)
        results = []
        for task, label in zip(tasks, labels, strict=True):
            results.append(_run(task))
            progress(label)
        return results
    fresh = get_context("spawn")  # a fork would copy Polars' locks without the threads that hold them
    with ProcessPoolExecutor(jobs, fresh, initializer=_initialise, initargs=(environment,)) as pool:
        futures = {pool.submit(_run, task): i for i, task in enumerate(tasks)}
        try:
            for future in as_completed(futures):
                future.result()
                progress(labels[futures[future]])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        return [future.result() for future in futures]
