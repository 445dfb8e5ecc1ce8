"""Tracing: run a model once, and see how it uses each parameter and what happens to the signal."""
