"""Slow-timescale controllers: which adapters stay resident."""
