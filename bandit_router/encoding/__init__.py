"""From a request to a context vector."""
