"""Pinned numbers of every policy on the beginning of the shipped table; `python -m tests.golden` writes them anew."""

from pathlib import Path

from bandit_router.policies import POLICIES
from bandit_router.simulators.configs import PolicyConfig
from bandit_router.simulators.run import simulate
from bandit_router.simulators.scenario import DEFAULT_PRESET, load_scenario

PINNED = Path(__file__).parent / "policies.json"
SEEDS, HORIZON = 2, 400


def compute(name):
    """Utility and plays per arm of one policy, by seed, over the first `HORIZON` requests of the default preset."""
    scenario, folder = load_scenario(DEFAULT_PRESET)
    environment = scenario.environment.build(scenario.name, folder)
    weights = scenario.utility(environment.scales).weights(environment.channels)
    runs = [
        simulate(environment, PolicyConfig(name=name).build(environment), weights, seed=seed, horizon=HORIZON)
        for seed in range(SEEDS)
    ]
    return {
        "utility": [float(run.curve[-1]) for run in runs],
        "plays": [run.plays.astype(int).tolist() for run in runs],
    }


def compute_all():
    """The numbers of every registered policy, by name."""
    return {name: compute(name) for name in POLICIES}
