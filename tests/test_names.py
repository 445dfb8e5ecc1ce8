"""Names across frameworks: one stream for one parameter, whatever its framework calls it."""

import pytest

from fanwise.errors import ArgumentError
from fanwise.names import JAX, KERAS, PACKED_ATTENTION, TORCH, NameMap, Rename, Stream

PATHS = {
    "fc1/kernel": "fc1.weight",
    "params/fc1/bias": "fc1.bias",
    "kernel": "weight",
    "layers_0/norm/scale": "layers.0.norm.weight",
    "blocks_11/attn/query/kernel": "blocks.11.attn.query.weight",
    "layers/3/kernel": "layers.3.weight",
    "embed/embedding": "embed.weight",
    "batch_stats/bn/mean": "bn.running_mean",
    "batch_stats/bn/var": "bn.running_var",
    "act/negative_slope": "act.weight",
    "mlp/~/linear_1/w": "mlp.linear.1.weight",
    "norm/offset": "norm.bias",
    "in/kernel": "in.weight",
    "conv2_d/w": "conv2_d.weight",
    "l/4/weight_ih": "l.4.weight_ih",
    "scale_net/kernel": "scale_net.weight",
    "gru/dense_h/kernel": "gru.weight_hh",
    "rnn/cell/dense_i/bias": "rnn.bias_ih_l0",
}


@pytest.mark.parametrize("path", PATHS)
def test_jax_paths_become_pytorch_s(path):
    assert JAX(path) == Stream(PATHS[path])


def test_a_gate_is_a_block_of_pytorch_s_weight():
    for block, gate in enumerate("ifgo"):
        assert JAX(f"lstm/cell/i{gate}/kernel") == Stream("lstm.weight_ih_l0", block, 4)
        assert JAX(f"LSTMCell_0/h{gate}/bias") == Stream("LSTMCell.0.bias_hh", block, 4)
    for block, gate in enumerate("rzn"):
        assert JAX(f"gru/cell/h{gate}/kernel") == Stream("gru.weight_hh_l0", block, 3)
    assert JAX("lstm/cell/if_/kernel") == JAX("lstm/cell/if/kernel")


def test_attention_packs_on_demand():
    packed = JAX.extend(*PACKED_ATTENTION)
    assert packed("attn/key/kernel") == Stream("attn.in_proj_weight", 1, 3)
    assert packed("attn/value/bias") == Stream("attn.in_proj_bias", 2, 3)
    assert packed("attn/out/kernel") == Stream("attn.out_proj.weight")
    assert JAX("attn/key/kernel") == Stream("attn.key.weight")
    packed = KERAS.extend(*PACKED_ATTENTION)
    assert packed("attn/query/bias") == Stream("attn.in_proj_bias", 0, 3)
    assert packed("attn/attention_output/kernel") == Stream("attn.out_proj.weight")


def test_keras_keeps_a_gru_s_update_gate_first():
    assert KERAS("gru/gru_cell/kernel") == Stream("gru.weight_ih_l0", order=(1, 0, 2))
    for order in ((0, 0), (1, 2), (0, 2)):
        with pytest.raises(ArgumentError, match="once"):
            Rename("kernel", "weight", order=order)


def test_keras_paths_become_pytorch_s():
    assert KERAS("fc1/kernel").name == "fc1.weight"
    assert KERAS("norm/gamma").name == "norm.weight"
    assert KERAS("norm/beta").name == "norm.bias"
    assert KERAS("norm/moving_variance").name == "norm.running_var"
    assert KERAS("lstm/lstm_cell/recurrent_kernel").name == "lstm.weight_hh_l0"
    assert KERAS("act/alpha").name == "act.weight"


def test_rules_of_a_user_come_first_and_the_map_stays_as_it_was():
    own = JAX.extend(Rename(r"^Dense_0/", "classifier/"))
    assert own("Dense_0/kernel").name == "classifier.weight"
    assert JAX("Dense_0/kernel").name == "Dense.0.weight"


def test_an_empty_map_keeps_paths():
    assert NameMap()("a/b_0/kernel") == Stream("a/b_0/kernel")
    assert TORCH("fc1.weight") == Stream("fc1.weight")


def test_maps_are_values():
    assert NameMap(JAX.rules) == JAX
    assert hash(JAX) == hash(NameMap(JAX.rules))


def test_errors_say_what_and_the_remedy():
    with pytest.raises(ArgumentError) as caught:
        Rename("(", "x")
    assert str(caught.value) == (
        "Rename: '(' is no regular expression: missing ), unterminated subpattern at position 0."
    )
    with pytest.raises(ArgumentError) as caught:
        Rename("a", "b", 3, 3)
    assert str(caught.value) == "Rename: block 3 of 3: pass 0 <= block < blocks."
    with pytest.raises(ArgumentError) as caught:
        JAX.extend(("a", "b"))
    assert str(caught.value) == (
        "NameMap: ('a', 'b') is no rule: pass Rename('^encoder/', 'bert/encoder/')."
    )


def test_a_map_is_shown_by_its_name():
    """Since it is a default in signatures, which `help` prints."""
    assert [repr(each) for each in (JAX, KERAS, TORCH)] == [
        "fanwise.names.JAX", "fanwise.names.KERAS", "fanwise.names.TORCH"]  # fmt: skip
    assert repr(JAX.extend(Rename("a", "b"))) == f"NameMap(<{len(JAX.rules) + 1} rules>)"
