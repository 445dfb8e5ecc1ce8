"""Checkpoints that are written for a test."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from fanwise.auditing.audit import audit


@pytest.fixture
def audited(tmp_path):
    """Return a function that writes arrays to a file and audits it."""

    def look(tensors, plan=None):
        path = tmp_path / "model.safetensors"
        save_file({name: np.ascontiguousarray(x) for name, x in tensors.items()}, path)
        return audit(path, plan)

    return look
