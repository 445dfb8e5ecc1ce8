"""Measure a PyTorch model."""
