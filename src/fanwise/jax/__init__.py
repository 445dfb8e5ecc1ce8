"""Front end for JAX: draw an array, plan a tree of parameters, initialize it."""

from fanwise.jax import initializers
from fanwise.jax.draw import draw
from fanwise.jax.params import Plan, init_params, plan
from fanwise.plan import Rule

__all__ = ["Plan", "Rule", "draw", "init_params", "initializers", "plan"]
