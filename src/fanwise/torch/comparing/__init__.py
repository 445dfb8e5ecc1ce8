"""Compare starts of a PyTorch model by training it."""
