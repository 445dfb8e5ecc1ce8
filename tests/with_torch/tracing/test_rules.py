"""Rules: what is known of an operation is stated once, beside what it makes of data."""

from __future__ import annotations

import pytest
from support.frameworks import require

require("torch")
import torch  # noqa: E402
from support.traced import fed  # noqa: E402

from fanwise.torch.tracing.aten import facts  # noqa: E402
from fanwise.torch.tracing.rules import registry  # noqa: E402
from fanwise.torch.tracing.rules.elementwise import record_pointwise  # noqa: E402


@pytest.fixture
def own_registry(monkeypatch):
    monkeypatch.setattr(facts, "FACTS", dict(facts.FACTS))
    monkeypatch.setattr(registry, "RULES", dict(registry.RULES))


def test_an_operation_is_added_in_one_place(own_registry):
    def activation(z):
        return torch.sinc(z)

    assert fed(activation).feeds == "an operation sinc"
    registry.rule("sinc", pointwise=True)(record_pointwise)
    assert fed(activation).feeds == "sinc"


def test_an_operation_has_one_rule(own_registry):
    with pytest.raises(AssertionError, match="relu has two rules"):
        registry.rule("relu")(record_pointwise)


def test_facts_of_one_operation_add_up(own_registry):
    facts.describe("relu", slope=0.5)
    assert facts.facts_of("relu").pointwise
    assert facts.facts_of("relu").slope == 0.5
    assert facts.facts_of("_scaled_dot_product_flash_attention").attends
    assert facts.facts_of("an_operation_that_nobody_has_named") == facts.UNKNOWN
