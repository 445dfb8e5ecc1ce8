#!/usr/bin/env bash
# torch 2.13.0: the first sum of a tensor on the meta device, which computes nothing but a shape, loads
# the compiler: torch._dynamo, torch._inductor and SymPy, some 800 modules. The same sum on the CPU
# loads none of them, and neither does an empty tensor on the meta device; torch._check alone, a check
# of one boolean, loads SymPy.
#
# Seen: after import torch, a sum on the CPU, an empty meta tensor: nothing of it
#       after torch._check(True): sympy
#       after a sum of meta tensors: sympy, torch._dynamo, torch._inductor (804 modules more)
set -euo pipefail
cd "$(dirname "$0")/.."
constraints="$PWD/constraints.txt"
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q -c "$constraints" torch==2.13.0
cd "$folder"
venv/bin/python -I - <<'PYTHON'
import sys

import torch

WATCHED = ("sympy", "torch._dynamo", "torch._inductor")


def loaded():
    return [name for name in WATCHED if name in sys.modules]


before = len(sys.modules)
torch.ones(3) + torch.ones(3)
shape = torch.empty(3, device="meta")
first = loaded()
torch._check(True)
second = loaded()
shape + shape
third = loaded()
print("after import torch, a sum on the CPU, an empty meta tensor:", ", ".join(first) or "nothing of it")
print("after torch._check(True):", ", ".join(second))
print("after a sum of meta tensors:", ", ".join(third), f"({len(sys.modules) - before} modules more)")
assert (first, second, third) == ([], ["sympy"], list(WATCHED))
assert len(sys.modules) - before > 500
PYTHON
