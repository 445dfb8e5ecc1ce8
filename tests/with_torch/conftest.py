"""One thread for PyTorch: these models are small, and waiting threads spin where cores are shared.

Threads of fanwise's own are given where a test is about them.
"""

from importlib.util import find_spec

if find_spec("torch") is not None:
    import torch

    torch.set_num_threads(1)
