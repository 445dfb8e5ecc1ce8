#!/usr/bin/env bash
# AnyInit 0.4.0 with torch 2.13.0: `anyinit.initialize(model)` draws the row of an embedding's padding_idx
# too, which PyTorch starts at zero. As that row never gets a gradient, it stays: every padded position
# adds a random vector of √2 an entry, for the whole training. LoRA's second factor, zero so that
# the adapter changes nothing at first, is drawn likewise. The report mentions neither.
#
# Seen: padding row: rms 0.00 before, 1.44 after, and after a step moved by 0.0
#       LoRA's adapter changes the output by rms 0.00 before, 1.01 after
set -euo pipefail
cd "$(dirname "$0")/.."
constraints="$PWD/constraints.txt"
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q -c "$constraints" anyinit==0.4.0 torch==2.13.0
cd "$folder"
venv/bin/python -I - <<'PYTHON'
import anyinit
import torch
from torch import nn


def rms(tensor):
    return tensor.detach().square().mean().sqrt().item()


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(50, 256, padding_idx=0)
        self.head = nn.Linear(256, 4)

    def forward(self, ids):
        return self.head(torch.relu(self.embedding(ids)))


class Adapted(nn.Module):
    def __init__(self):
        super().__init__()
        self.base, self.down = nn.Linear(64, 64), nn.Linear(64, 8, bias=False)
        self.up = nn.Linear(8, 64, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x):
        return self.base(x) + self.up(self.down(x))


torch.manual_seed(0)
tagger, adapted, x = Tagger(), Adapted(), torch.randn(256, 64)
before = rms(tagger.embedding.weight[0]), rms(adapted.up(adapted.down(x)))
reports = anyinit.initialize(tagger), anyinit.initialize(adapted)
after = rms(tagger.embedding.weight[0]), rms(adapted.up(adapted.down(x)))
row = tagger.embedding.weight[0].detach().clone()
step = torch.optim.SGD(tagger.parameters(), lr=1.0)
tagger(torch.tensor([[0, 0, 3, 7]])).square().sum().backward()
step.step()
moved = rms(tagger.embedding.weight[0] - row)
print(f"padding row: rms {before[0]:.2f} before, {after[0]:.2f} after, and after a step moved by {moved}")
print(f"LoRA's adapter changes the output by rms {before[1]:.2f} before, {after[1]:.2f} after")
assert before == (0.0, 0.0) and moved == 0.0
assert 1.2 < after[0] < 1.6 and after[1] > 0.5
assert not any(word in str(report).lower() for report in reports for word in ("padding", "lora"))
PYTHON
