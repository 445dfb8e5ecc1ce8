"""The zoo's own draws: none of them looks trained."""

import pytest
import torch
from safetensors.torch import save_file
from zoo.catalogue import ENTRIES

from fanwise.auditing.audit import audit


@pytest.mark.slow
def test_no_model_of_the_zoo_looks_trained(tmp_path):
    path, drawn, named, trained = tmp_path / "model.safetensors", 0, 0, []
    for entry in ENTRIES:
        state = entry.build()[0].state_dict()
        dense = {k: v for k, v in state.items() if isinstance(v, torch.Tensor)}
        save_file({k: v.detach().clone().contiguous() for k, v in dense.items()}, path)
        for tensor in audit(path).tensors:
            if tensor.is_kernel:
                drawn += tensor.origin.kind == "drawn"
                named += bool(tensor.origin.schemes)
                if tensor.origin.kind == "trained":
                    trained.append((entry.name, tensor.name))
    assert not trained
    assert drawn > 4400
    assert named > 0.95 * drawn
