"""Joules: meters, and tables of measurements."""
