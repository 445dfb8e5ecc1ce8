#!/usr/bin/env bash
# transformers 5.23.0 with torch 2.13.0: Nemotron's layer norm multiplies by 1 + weight, so that weight 0
# is the plain norm and weight decay pulls towards it; but a model made from a configuration starts with
# weight 1, and each norm doubles what it norms. Megatron, where the norm comes from, starts it at 0.
# What is read from a checkpoint isn't touched by it. Gemma's norm, of the same form, starts at 0.
#
# Seen: Nemotron: weight 1.0 at the start, rms of the norm's output 2.00
#       Gemma: weight 0.0 at the start, rms of the norm's output 1.00
set -euo pipefail
cd "$(dirname "$0")/.."
constraints="$PWD/constraints.txt"
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q -c "$constraints" transformers torch==2.13.0
cd "$folder"
venv/bin/python -I - <<'PYTHON'
import torch
from transformers import GemmaConfig, GemmaForCausalLM, NemotronConfig, NemotronForCausalLM

sizes = {
    "vocab_size": 64, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1,
    "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 16,
}
torch.manual_seed(0)
x = torch.randn(512, 64)
found = {}
for name, model in (
    ("Nemotron", NemotronForCausalLM(NemotronConfig(**sizes))),
    ("Gemma", GemmaForCausalLM(GemmaConfig(**sizes))),
):
    norm = model.model.layers[0].input_layernorm
    found[name] = norm.weight.mean().item(), norm(x).square().mean().sqrt().item()
    weight, rms = found[name]
    print(f"{name}: weight {weight} at the start, rms of the norm's output {rms:.2f}")
assert found["Nemotron"][0] == 1.0 and abs(found["Nemotron"][1] - 2.0) < 0.01
assert found["Gemma"][0] == 0.0 and abs(found["Gemma"][1] - 1.0) < 0.01
PYTHON
