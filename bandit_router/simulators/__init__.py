"""Environments, the simulation loop, scenarios and sweeps."""
