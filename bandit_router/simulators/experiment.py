"""Run a scenario: every policy on every seed, over processes, into one results document."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from bandit_router.arrays import F64
from bandit_router.policies import DEFAULT_POLICY
from bandit_router.simulators.arena import Arena
from bandit_router.simulators.configs import PolicyConfig
from bandit_router.simulators.controllers import DEFAULT_CONTROLLER, Hindsight
from bandit_router.simulators.results import (
    LEVEL,
    interval,
    paging_result,
    policy_result,
    reference_result,
    router_result,
)
from bandit_router.simulators.run import Reference, Trajectory, checkpoints
from bandit_router.simulators.scenario import Scenario

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Experiment:
    """A finished scenario.

    Attributes:
        document: the results, as written by `simulate --json`.
        steps: steps at which curves are kept. curves: regret against the best fixed arm by policy label,
            shape (seeds, checkpoints).
        utilities: mean utility of every seed by policy label, shape (seeds,).
    """

    document: dict[str, Any]
    steps: np.ndarray[Any, Any]
    curves: dict[str, F64]
    utilities: dict[str, F64]

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
    """One policy on one stream; without a policy, the references of that stream."""

    policy: PolicyConfig | None
    seed: int
    known: Hindsight | None = None

    @property
    def label(self) -> str:
        return "reference" if self.policy is None else self.policy.title


def run_scenario(
    scenario: Scenario, folder: Path | None = None, *, jobs: int = 1, progress: Progress = lambda _: None
) -> Experiment:
    """Run a scenario.

    Args:
        scenario: what to run. folder: where its relative paths start.
        jobs: processes; results do not depend on it. Above 1, call it under `if __name__ == "__main__"`.
        progress: called with the policy's label after each finished stream.
    """
    arena = Arena.of(scenario, folder)
    seeds = range(scenario.seeds)
    with _workers(arena, jobs) as execute:
        known = execute([_Task(None, seed) for seed in seeds], progress)
        tasks = [_Task(policy, seed, known[seed][1]) for policy in scenario.policies for seed in seeds]
        runs = execute(tasks, progress)
    references: list[Reference] = [reference for reference, _ in known]
    environment, arms = arena.environment, [arm.id for arm in arena.environment.arms]
    results, curves, utilities = [], {}, {}
    for i, policy in enumerate(scenario.policies):
        trajectories: list[Trajectory] = runs[i * len(seeds) : (i + 1) * len(seeds)]
        results.append(
            policy_result(
                policy.title,
                default=policy.name == DEFAULT_POLICY and not policy.settings and policy.cache == DEFAULT_CONTROLLER,
                trajectories=trajectories,
                references=references,
                arms=arms,
                channels=environment.channels,
                horizon=arena.horizon,
            )
            | paging_result(trajectories, [hindsight for _, hindsight in known], arena.horizon)
            | router_result(trajectories, arena.horizon)
        )
        pairs = zip(references, trajectories, strict=True)
        utilities[policy.title] = np.array([t.curve[-1] for t in trajectories]) / arena.horizon
        curves[policy.title] = np.array([r.fixed[:, r.best_fixed] - t.curve for r, t in pairs])
    document = {
        "scenario": scenario.name,
        "environment": environment.describe() | {"prices": arena.prices(scenario), "level": LEVEL} | _paging(scenario),
        "horizon": arena.horizon,
        "seeds": scenario.seeds,
        "arms": arms,
        "policies": results,
        "references": reference_result(references, arena.fixed_choices, arena.horizon),
    }
    return Experiment(document, checkpoints(arena.horizon), curves, utilities)


def _paging(scenario: Scenario) -> dict[str, Any]:
    return {} if scenario.paging is None else {"paging": msgspec.to_builtins(scenario.paging)}


_arena: Arena


def _initialise(arena: Arena) -> None:
    global _arena
    _arena = arena


def _initialise_worker(arena: Arena) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the parent ends its workers
    _initialise(arena)


def _run(task: _Task) -> Any:
    if task.policy is None:
        return _arena.reference(task.seed)
    return _arena.run(task.policy, task.seed, task.known)


Execute = Callable[[Sequence[_Task], Progress], list[Any]]


@contextmanager
def _workers(arena: Arena, jobs: int) -> Iterator[Execute]:
    """A function that runs tasks and returns their results in order, in this process or in several."""
    if jobs == 1:
        _initialise(arena)
        yield _in_turn
        return
    with ProcessPoolExecutor(jobs, initializer=_initialise_worker, initargs=(arena,)) as pool:
        try:
            yield partial(_in_parallel, pool)
        except BaseException:  # the `with` waits for its workers, and a stream can take minutes
            for worker in list(pool._processes.values()):
                worker.terminate()
            raise


def _in_turn(tasks: Sequence[_Task], progress: Progress) -> list[Any]:
    results = []
    for task in tasks:
        results.append(_run(task))
        progress(task.label)
    return results


def _in_parallel(pool: ProcessPoolExecutor, tasks: Sequence[_Task], progress: Progress) -> list[Any]:
    futures = {pool.submit(_run, task): task for task in tasks}
    for future in as_completed(futures):
        future.result()
        progress(futures[future].label)
    return [future.result() for future in futures]
