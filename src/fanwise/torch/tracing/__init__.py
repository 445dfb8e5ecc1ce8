"""Run a PyTorch model once; see how it uses each parameter, what happens to the signal."""
