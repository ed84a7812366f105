"""Online bandit routing of requests over language models and LoRA adapters."""
