#!/usr/bin/env bash
# torch-geometric 2.8.1: the more heads a GATConv has, the smaller its attention vectors start. They are
# kept as (1, heads, channels), and the package's `glorot` takes the last two axes for the fans: the variance
# is 2/(heads + channels), though each head's vector meets `channels` entries however many heads there are.
# So scores start smaller with every head: with 128 heads of 16 channels at a third of those of one head.
# GATv2Conv does the same.
#
# Seen: GATConv, 16 channels: std of att_src with 1 head 0.34, with 8 heads 0.29, with 128 heads 0.12
#       GATv2Conv, 16 channels: std of att with 1 head 0.34, with 8 heads 0.29, with 128 heads 0.12
set -euo pipefail
cd "$(dirname "$0")/.."
constraints="$PWD/constraints.txt"
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q -c "$constraints" torch torch-geometric
cd "$folder"
venv/bin/python -I -W ignore - <<'PYTHON'
import torch
from torch_geometric.nn import GATConv, GATv2Conv


def spread(layer, name, heads):
    """Return the standard deviation of an attention vector's entries, over many layers."""
    drawn = [getattr(layer(8, 16, heads=heads), name).detach() for _ in range(512 // heads + 8)]
    return float(torch.cat([vector.flatten() for vector in drawn]).std())


torch.manual_seed(0)
for layer, name in ((GATConv, "att_src"), (GATv2Conv, "att")):
    one, eight, many = (spread(layer, name, heads) for heads in (1, 8, 128))
    print(
        f"{layer.__name__}, 16 channels: std of {name} with 1 head {one:.2f}, "
        f"with 8 heads {eight:.2f}, with 128 heads {many:.2f}"
    )
    for std, heads in ((one, 1), (eight, 8), (many, 128)):
        assert abs(std / (2 / (heads + 16)) ** 0.5 - 1) < 0.05
PYTHON
