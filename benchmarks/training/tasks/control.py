"""Reinforcement learning: a pole that is balanced on a cart, by the policy gradient."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.training import data
from benchmarks.training.task import Parts, task
from benchmarks.training.tasks.plain import mlp

GRAVITY, CART, POLE, LENGTH, FORCE, STEP = 9.8, 1.0, 0.1, 0.5, 10.0, 0.02
"""Of Barto, Sutton and Anderson (1983), "Neuronlike adaptive elements …", appendix."""
FARTHEST, STEEPEST = 2.4, 0.21
"""Metres from the middle and radians from upright beyond which an episode is over."""
LONGEST = 80
"""Steps of an episode."""


def move(state: Tensor, right: Tensor) -> Tensor:
    """Return the state (place, speed, angle, angular speed) after a push; Euler's step."""
    _, v, angle, spin = state.unbind(-1)
    force = torch.where(right, FORCE, -FORCE)
    sine, cosine, total = angle.sin(), angle.cos(), CART + POLE
    push = (force + POLE * LENGTH * spin**2 * sine) / total
    turning = (GRAVITY * sine - cosine * push) / (LENGTH * (4.0 / 3.0 - POLE * cosine**2 / total))
    speeding = push - POLE * LENGTH * turning * cosine / total
    changes = torch.stack([v, speeding, spin, turning], -1)
    return state + STEP * changes


class Policy(nn.Module):
    """A net from states to the log-odds of a push to the right."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp([4, 64, 64, 1], nn.Tanh)

    def forward(self, state: Tensor) -> tuple[Tensor, nn.Module]:
        """Return the first step's log-odds, and the net, by which `play` goes on."""
        return self.net(state).squeeze(-1), self.net


def play(output: tuple[Tensor, nn.Module], state: Tensor) -> tuple[Tensor, Tensor]:
    """Play a batch of episodes; return REINFORCE's loss, and the share of the steps fallen short.

    Returns from each step on are compared with the batch's mean at that step.
    """
    odds, net = output
    alive = torch.ones(len(state), dtype=torch.bool)
    logs, lives = [], []
    for _ in range(LONGEST):
        chance = torch.distributions.Bernoulli(logits=odds)
        action = chance.sample()
        logs.append(chance.log_prob(action))
        lives.append(alive.float())
        state = move(state, action > 0.5)
        alive = alive & (state[:, 0].abs() < FARTHEST) & (state[:, 2].abs() < STEEPEST)
        odds = net(state).squeeze(-1)
    lived = torch.stack(lives)
    returns = lived.flip(0).cumsum(0).flip(0)
    baseline = (returns * lived).sum(1, keepdim=True) / lived.sum(1, keepdim=True).clamp(min=1.0)
    gains = (returns - baseline) * lived / LONGEST
    return -(torch.stack(logs) * gains).sum(0).mean(), 1.0 - lived.mean()


@task("balancing a pole", "control", steps=60)
def balancing() -> Parts:
    def make(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        state = 0.1 * torch.rand(32, 4, generator=generator) - 0.05
        return state, state

    return Parts(Policy, data.generated(make), play)
