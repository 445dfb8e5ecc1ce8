"""One thread for PyTorch: the models are small, and waiting threads spin where cores are shared."""

from importlib.util import find_spec

if find_spec("torch") is not None:
    import torch

    torch.set_num_threads(1)
