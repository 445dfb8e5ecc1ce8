"""Growing a vocabulary: what new rows hold, and that old tokens are predicted as before."""

import copy

import numpy as np
import pytest
from support.frameworks import require

require("torch")
import torch  # noqa: E402
from torch import nn  # noqa: E402

import fanwise.torch as fwt  # noqa: E402
from fanwise.errors import ArgumentError, ModelError  # noqa: E402
from fanwise.growing.vocabulary import new_rows  # noqa: E402

OLD, NEW, WIDTH = 40, 10, 8
IDS = torch.randint(OLD, (4, 7), generator=torch.Generator().manual_seed(0))


class Model(nn.Module):
    """Tokens, a layer, a head; logits of old tokens far below 0, as in trained models."""

    def __init__(self, tokens, *, tied=False, padding=None):
        super().__init__()
        self.tokens = nn.Embedding(tokens, WIDTH, padding_idx=padding)
        self.layer, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, tokens)
        if tied:
            self.head.weight = self.tokens.weight

    def forward(self, ids):
        return self.head(torch.tanh(self.layer(self.tokens(ids))))


def resized(**how):
    """A model of old tokens, and one with room for new ones that holds its weights."""
    torch.manual_seed(0)
    small, large = Model(OLD, **how), Model(OLD + NEW, **how)
    with torch.no_grad():
        small.head.bias.sub_(20.0)
        for (_, value), (_, room) in zip(
            small.named_parameters(), large.named_parameters(), strict=True
        ):
            room[: len(value)] = value
    return small, large


def loss(model):
    logits = model(IDS).flatten(0, 1)
    return float(nn.functional.cross_entropy(logits, IDS.roll(1).flatten()).detach())


@pytest.mark.parametrize("tied", [False, True])
def test_the_loss_on_old_tokens_stays(tied):
    """At most log(1 + new/old) more; with rows drawn as at the start it is more by far."""
    small, large = resized(tied=tied)
    before = loss(small)
    assert loss(large) > before + 5.0
    grown = fwt.grow_vocabulary(large, IDS, OLD, seed=0)
    assert [g.name for g in grown] == (
        ["tokens.weight", "head.bias"] if tied else ["tokens.weight", "head.weight", "head.bias"]
    )
    assert before - 1e-5 <= loss(large) < before + np.log(1.0 + NEW / OLD)


def test_new_rows_are_drawn_by_name_and_old_ones_stay():
    small, large = resized()
    fwt.grow_vocabulary(large, IDS, OLD, seed=3, covariance=0.5)
    for name, value in small.named_parameters():
        if len(value) != OLD:
            continue
        room = large.get_parameter(name).detach()
        assert torch.equal(room[:OLD], value)
        table = value.detach().reshape(OLD, -1).double().numpy()
        expected = new_rows(table, OLD, NEW, seed=3, name=name, covariance=0.5)
        assert np.array_equal(room[OLD:].reshape(NEW, -1).numpy(), expected.astype(np.float32))


def test_padding_rows_stay_and_count_for_nothing():
    _, large = resized(padding=3)
    fwt.grow_vocabulary(large, IDS, OLD, seed=0, covariance=0.0)
    rows = [i for i in range(OLD) if i != 3]
    mean = large.tokens.weight[rows].mean(0)
    assert torch.allclose(large.tokens.weight[OLD:], mean.expand(NEW, -1), atol=1e-6)
    assert not large.tokens.weight[3].any()
    last = Model(OLD + NEW, padding=OLD + NEW - 1)
    fwt.grow_vocabulary(last, IDS, OLD, seed=0)
    assert not last.tokens.weight[-1].any()
    assert last.tokens.weight[-2].any()


def test_rows_differ_in_bfloat16():
    """About a mean of half a standard deviation, which has a spacing of 0.002."""
    _, large = resized()
    with torch.no_grad():
        large.tokens.weight.add_(0.5)
    large.bfloat16()
    fwt.grow_vocabulary(large, IDS, OLD, seed=0)
    assert len(torch.unique(large.tokens.weight[OLD:], dim=0)) == NEW


def test_what_cannot_be_grown():
    model = Model(OLD)
    with pytest.raises(ArgumentError, match="the largest has 40"):
        fwt.grow_vocabulary(model, IDS, OLD, seed=0)
    with pytest.raises(ArgumentError, match="a vocabulary that shrinks"):
        fwt.grow_vocabulary(model, IDS, OLD + 1, seed=0)
    with pytest.raises(ArgumentError, match="new rows need old ones"):
        fwt.grow_vocabulary(model, IDS * 0, 1, seed=0)
    with pytest.raises(ArgumentError, match="covariance=-1"):
        fwt.grow_vocabulary(model, IDS, 30, seed=0, covariance=-1.0)
    with pytest.raises(ModelError, match="on the meta device"):
        fwt.grow_vocabulary(Model(OLD).to("meta"), IDS, 30, seed=0)

    class Two(Model):
        def __init__(self):
            super().__init__(OLD)
            self.more = nn.Embedding(60, WIDTH)

        def forward(self, ids):
            return self.head(self.tokens(ids) + self.more(ids))

    with pytest.raises(ArgumentError, match=r"'more.weight' has 60, 'tokens.weight' has 40"):
        fwt.grow_vocabulary(Two(), IDS, 30, seed=0)


def test_beside_transformers():
    """Its covariance is 10⁻⁹ of the old rows', which bfloat16 can't tell from their mean."""
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=OLD,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        bos_token_id=0,
        eos_token_id=1,
    )
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(config)
    with torch.no_grad():
        model.model.embed_tokens.weight.add_(0.01)
    ours, theirs = (copy.deepcopy(model).bfloat16() for _ in range(2))
    theirs.resize_token_embeddings(OLD + NEW, mean_resizing=True)
    ours.resize_token_embeddings(OLD + NEW, mean_resizing=False)
    fwt.grow_vocabulary(ours, {"input_ids": IDS}, OLD, seed=0)
    tables = [m.model.embed_tokens.weight[OLD:].detach().float() for m in (theirs, ours)]
    assert len(torch.unique(tables[0], dim=0)) < NEW
    assert len(torch.unique(tables[1], dim=0)) == NEW
    assert torch.allclose(tables[0].mean(0), tables[1].mean(0), atol=1e-3)
