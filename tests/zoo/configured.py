"""A class of `transformers`, built from a small configuration of its own; no download.

Labels are independent of the inputs, so that the loss of a model that knows nothing is ln(classes).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from zoo.entry import Built, Entry

VOCABULARY, LABELS = 1000, 100
BATCH, LENGTH = 8, 24
IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def tokens(*shape: int) -> torch.Tensor:
    """Return random token ids; none is padding."""
    return torch.randint(3, VOCABULARY, shape or (BATCH, LENGTH))


def labels() -> torch.Tensor:
    """Return a random class for each sample."""
    return torch.randint(LABELS, (BATCH,))


def model(
    name: str,
    family: str,
    class_name: str,
    config: dict[str, Any],
    inputs: Callable[[], dict[str, Any]],
    classes: int | None = None,
    thawed: bool = False,
    **more: Any,
) -> Entry:
    """Return the entry of a class of `transformers`, built from its own configuration class.

    Args:
        name, family: of the entry.
        class_name, config: of the model.
        inputs: that run it.
        classes: see `Entry`.
        thawed: whether what the model's code freezes is trained too. A frozen layer keeps the one
            draw that it has, so no average over draws shows what is expected of it.
        more: for `Entry`.
    """

    def builder() -> Built:
        import transformers

        cls = getattr(transformers, class_name)
        net = cls(cls.config_class(**config))
        return net.requires_grad_() if thawed else net, inputs()

    return Entry(name, family, builder, classes, **more)
