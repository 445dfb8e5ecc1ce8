"""Measure a JAX model."""
