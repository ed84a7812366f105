"""Production logs: the canonical log in memory, and one file per format."""
