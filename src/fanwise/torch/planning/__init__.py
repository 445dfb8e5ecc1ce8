"""Plan a PyTorch model."""
