"""Environments, the simulation loop, paging and energy models, replay and off-policy evaluation."""
