"""Front end for PyTorch: draw a tensor, plan a model, initialize it, measure it, calibrate it."""

from fanwise.plan import Rule
from fanwise.torch.calibrate import calibrate
from fanwise.torch.coordinates import coordinate_check
from fanwise.torch.draw import draw
from fanwise.torch.measure import measure
from fanwise.torch.plan import Plan, init_, plan

__all__ = ["Plan", "Rule", "calibrate", "coordinate_check", "draw", "init_", "measure", "plan"]
