"""Limits on what is spent, the accounts they keep, and the pacing that holds them."""
