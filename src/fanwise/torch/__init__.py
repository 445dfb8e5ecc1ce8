"""Front end for PyTorch: draw a tensor, plan a model, initialize it, measure it."""

from fanwise.plan import Rule
from fanwise.torch.draw import draw
from fanwise.torch.measure import measure
from fanwise.torch.plan import Plan, init_, plan

__all__ = ["Plan", "Rule", "draw", "init_", "measure", "plan"]
