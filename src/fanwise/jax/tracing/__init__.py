"""From a model in JAX to a trace: its jaxpr, walked equation by equation."""
