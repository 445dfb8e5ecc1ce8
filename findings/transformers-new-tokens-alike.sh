#!/usr/bin/env bash
# transformers 5.23.0: `resize_token_embeddings` says that new rows come from a normal distribution with the
# old rows' mean and covariance. The covariance is multiplied by 10⁻⁹ first, so that the new rows lie some
# 30,000 times closer to each other than old ones do. Where the mean isn't tiny, some new rows of a bfloat16
# model are then equal bit for bit; and where there are fewer old tokens than units, so that the covariance isn't
# positive definite, all new rows are the mean, in float32 too. Tokens with equal rows get equal logits where
# these are tied to the output.
#
# Seen: float32, 1000 tokens, 64 units: new rows spread 3.1e-05 of old ones, 20 of 20 distinct
#       bfloat16, rows about 0.05: 14 of 20 distinct
#       float32, 40 tokens, 64 units: 1 of 20 distinct
set -euo pipefail
cd "$(dirname "$0")/.."
constraints="$PWD/constraints.txt"
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q -c "$constraints" torch==2.13.0 transformers==5.23.0
cd "$folder"
venv/bin/python -I -W ignore - <<'PYTHON'
import torch
from transformers import GPT2Config, GPT2LMHeadModel, logging

logging.set_verbosity_error()
NEW = 20


def grown(tokens, dtype, mean):
    """Return how many of the new rows are distinct, and their spread relative to the old ones'."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=tokens, n_positions=8, n_embd=64, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0
    )
    model = GPT2LMHeadModel(config)
    with torch.no_grad():
        model.transformer.wte.weight.normal_(mean, 0.1)
    model = model.to(dtype)
    model.resize_token_embeddings(tokens + NEW)
    rows = model.transformer.wte.weight.detach().float()
    old, new = rows[:tokens], rows[tokens:]
    return len(new.unique(dim=0)), float(new.std(0).mean() / old.std(0).mean())


distinct, spread = grown(1000, torch.float32, 0.0)
print(f"float32, 1000 tokens, 64 units: new rows spread {spread:.1e} of old ones, {distinct} of {NEW} distinct")
assert distinct == NEW and 1e-5 < spread < 1e-4
distinct, _ = grown(1000, torch.bfloat16, 0.05)
print(f"bfloat16, rows about 0.05: {distinct} of {NEW} distinct")
assert distinct < NEW
distinct, _ = grown(40, torch.float32, 0.0)
print(f"float32, 40 tokens, 64 units: {distinct} of {NEW} distinct")
assert distinct == 1
PYTHON
