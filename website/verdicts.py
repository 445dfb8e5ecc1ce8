"""The reference's page of verdicts: for each kind a small model, run, and what is said of it."""

from __future__ import annotations

import contextlib
import io
from typing import NamedTuple

from fanwise.signal import Kind, Signal


class Example(NamedTuple):
    """A kind of verdict, what it means, and a program whose `signal` has it as its gravest."""

    kind: Kind
    meaning: str
    code: str


EXAMPLES = (
    Example(
        Kind.VANISHING,
        "The signal, what differs between samples, or the gradient shrinks layer by layer. The "
        "verdict gives the factor a layer, where it begins, and the weights whose scale is to "
        "blame.",
        """
model = nn.Sequential(*[layer for _ in range(20) for layer in (nn.Linear(64, 64), nn.ReLU())])
signal = fwt.measure(model, torch.randn(128, 64))  # PyTorch's own start
""",
    ),
    Example(
        Kind.EXPLODING,
        "The same, growing.",
        """
model = nn.Sequential(*[layer for _ in range(10) for layer in (nn.Linear(64, 64), nn.ReLU())])
for weight in model.parameters():
    nn.init.normal_(weight)
signal = fwt.measure(model, torch.randn(128, 64))
""",
    ),
    Example(
        Kind.SATURATED,
        "Most entries of a saturating activation lie where its slope is below 5 % of its steepest: "
        "the gradient hardly passes.",
        """
model = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10))
fwt.init_(model, x := torch.randn(128, 64), seed=0)
with torch.no_grad():
    model[2].weight.mul_(10)
signal = fwt.measure(model, x)
""",
    ),
    Example(
        Kind.DEAD,
        "Units that pass no gradient on any sample of the batch: they can't learn.",
        """
model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
fwt.init_(model, x := torch.randn(128, 64), seed=0)
nn.init.constant_(model[2].bias, -8.0)
signal = fwt.measure(model, x)
""",
    ),
    Example(
        Kind.COLLAPSED,
        "The rms is kept, and yet all inputs become one: the cosine between samples goes to 1.",
        """
model = nn.Sequential(*[layer for _ in range(60) for layer in (nn.Linear(64, 64), nn.ReLU())])
fwt.init_(model, x := torch.randn(128, 64), seed=0, policy="none")
signal = fwt.measure(model, x)
""",
    ),
    Example(
        Kind.BIASED,
        "What is the same for all samples outweighs what differs: by a bias, by weights of a mean "
        "other than zero, by inputs that aren't normalized, or by a sum over a set.",
        """
model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
x = torch.randn(128, 64)
fwt.init_(model, x, seed=0)
signal = fwt.measure(model, 100.0 + 10.0 * x)  # as pixels from 0 to 255
""",
    ),
    Example(
        Kind.WRONG_SCALE,
        "One weight's deviation lies far from what the plan would draw, in a model whose others "
        "don't.",
        """
model = nn.Sequential(*[layer for _ in range(4) for layer in (nn.Linear(64, 64), nn.ReLU())])
fwt.init_(model, x := torch.randn(128, 64), seed=0)
with torch.no_grad():
    model[4].weight.mul_(4)
signal = fwt.measure(model, x)
""",
    ),
    Example(
        Kind.IDENTICAL,
        "Units, or whole parameters, are copies of one another: gradients keep them so for ever.",
        """
model = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10))
fwt.init_(model, x := torch.randn(128, 64), seed=0)
nn.init.constant_(model[0].weight, 0.05)
signal = fwt.measure(model, x)
""",
    ),
    Example(
        Kind.RESIDUAL_GROWTH,
        "A residual stream grows by a factor with each branch that it sums, and so without end.",
        """
class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(64, 64), nn.Linear(64, 64)

    def forward(self, x):
        return x + self.down(torch.relu(self.up(x)))


model = nn.Sequential(*[Block() for _ in range(16)], nn.Linear(64, 10))
for name, weight in model.named_parameters():
    if name.endswith("weight"):
        nn.init.kaiming_normal_(weight, nonlinearity="relu")
signal = fwt.measure(model, torch.randn(128, 64))
""",
    ),
    Example(
        Kind.HOT_HEAD,
        "The logits are large: before it has seen a sample, the model is sure, and its loss lies "
        "above that of a guess.",
        """
model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
fwt.init_(model, x := torch.randn(128, 64), seed=0)
with torch.no_grad():
    model[2].weight.mul_(50)
labels = torch.arange(128) % 10
signal = fwt.measure(model, x, loss=lambda y: nn.functional.cross_entropy(y, labels))
""",
    ),
    Example(
        Kind.DEAD_BRANCH,
        "A residual branch adds nothing, and never will: two factors in a row are zero, so that "
        "neither has a gradient.",
        """
class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(64, 64), nn.Linear(64, 64)

    def forward(self, x):
        return x + self.down(torch.relu(self.up(x)))


model = nn.Sequential(Block(), Block(), nn.Linear(64, 10))
fwt.init_(model, x := torch.randn(128, 64), seed=0)
for parameter in model[1].parameters():
    nn.init.zeros_(parameter)
signal = fwt.measure(model, x)
""",
    ),
)

PREAMBLE = """import fanwise.torch as fwt
import torch
from torch import nn

torch.manual_seed(0)
"""


def run(example: Example) -> Signal:
    """Return the signal that an example's program measures."""
    namespace: dict[str, object] = {}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(PREAMBLE + example.code, namespace)
    signal = namespace["signal"]
    assert isinstance(signal, Signal)
    return signal


def verdicts_page() -> str:
    """Return the page in Markdown; every text in it is what fanwise says on this build."""
    parts = [
        "# Verdicts",
        "`measure` ends in no verdict, *healthy*, or in one for each cause, the gravest first. A "
        "verdict has a kind (`verdict.kind`), a direction, place, cause and fix. Each example "
        "below is run when this page is built, after these lines; the text is what "
        "`print(signal.summary)` prints.",
        f"```python\n{PREAMBLE}```",
        "[What is measured, and how causes are told from consequences](../signal.md); "
        "[how often it is right](../why/index.md).",
    ]
    for example in EXAMPLES:
        parts += [
            f"## {example.kind}",
            example.meaning,
            f"```python\n{example.code.strip()}\nprint(signal.summary)\n```",
            f"```text\n{run(example).summary}\n```",
        ]
    return "\n\n".join(parts) + "\n"
