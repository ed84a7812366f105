"""The router, and what it composes: chooser, rollout, guard, explanation, cascade."""
