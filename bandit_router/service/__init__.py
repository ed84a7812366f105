"""The gateway: an OpenAI-compatible endpoint over OpenAI-compatible upstreams, routed and learned by a `Router`."""
