#!/usr/bin/env bash
# lsuv 0.3 with torch 2.13.0: `lsuv_with_singlebatch` draws every linear and convolutional layer anew,
# frozen ones too: weights of requires_grad=False, as a pretrained trunk has under a new head, are
# replaced by a random orthogonal matrix, and stay so, as nothing trains them. Its arguments have no
# way to leave a layer out but do_orthonorm=False, under which the frozen weights are still rescaled.
#
# Seen: frozen weights kept: False; correlation with what they were: 0.01
#       with do_orthonorm=False: kept: False, multiplied by 3.16
set -euo pipefail
cd "$(dirname "$0")/.."
constraints="$PWD/constraints.txt"
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q -c "$constraints" lsuv==0.3 torch==2.13.0
cd "$folder"
venv/bin/python -I - <<'PYTHON'
import torch
from lsuv import lsuv_with_singlebatch
from torch import nn


def pretrained():
    torch.manual_seed(0)
    trunk = nn.Linear(64, 64)
    nn.init.normal_(trunk.weight, std=0.038)
    trunk.requires_grad_(False)
    return nn.Sequential(trunk, nn.ReLU(), nn.Linear(64, 10))


x = torch.randn(512, 64, generator=torch.Generator().manual_seed(1))
model = pretrained()
was = model[0].weight.clone()
lsuv_with_singlebatch(model, x, verbose=False)
now = model[0].weight
alike = torch.corrcoef(torch.stack([was.flatten(), now.flatten()]))[0, 1].item()
kept = torch.equal(was, now)
print(f"frozen weights kept: {kept}; correlation with what they were: {abs(alike):.2f}")

model = pretrained()
lsuv_with_singlebatch(model, x, verbose=False, do_orthonorm=False)
factor = model[0].weight / was
print(f"with do_orthonorm=False: kept: {torch.equal(was, model[0].weight)}, multiplied by {factor.mean():.2f}")
assert not kept and abs(alike) < 0.1
assert factor.std() < 1e-3 and factor.mean() > 1.5
PYTHON
