"""Growing models of transformers'."""

import pytest
from support.frameworks import require

require("torch")
transformers = pytest.importorskip("transformers")
import torch  # noqa: E402

import fanwise.torch as fwt  # noqa: E402
from fanwise.errors import ModelError  # noqa: E402

TOKENS = {"input_ids": torch.randint(50, (3, 12), generator=torch.Generator().manual_seed(0))}
IMAGES = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
SPECIAL = {"vocab_size": 50, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": None}


def llama(width, depth, heads, groups, **how):
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            hidden_size=width,
            intermediate_size=width + width // 2,
            num_hidden_layers=depth,
            num_attention_heads=heads,
            num_key_value_heads=groups,
            head_dim=8,
            **SPECIAL,
            **how,
        )
    )


def mixtral(width, depth, heads):
    return transformers.MixtralForCausalLM(
        transformers.MixtralConfig(
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=depth,
            num_attention_heads=heads,
            num_key_value_heads=heads // 2,
            num_local_experts=3,
            **SPECIAL,
        )
    )


def neox(width, depth, heads):
    return transformers.GPTNeoXForCausalLM(
        transformers.GPTNeoXConfig(
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=depth,
            num_attention_heads=heads,
            max_position_embeddings=16,
            **SPECIAL,
        )
    )


def gpt2(width, depth, heads):
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(n_embd=width, n_layer=depth, n_head=heads, **SPECIAL)
    )


def bert(width, depth, heads):
    return transformers.BertForMaskedLM(
        transformers.BertConfig(
            vocab_size=50,
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=depth,
            num_attention_heads=heads,
        )
    )


def vit(width, depth, heads):
    return transformers.ViTForImageClassification(
        transformers.ViTConfig(
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=depth,
            num_attention_heads=heads,
            image_size=16,
            patch_size=4,
        )
    )


def resnet(width, depths):
    return transformers.ResNetForImageClassification(
        transformers.ResNetConfig(
            embedding_size=width,
            hidden_sizes=[2 * width, 4 * width],
            depths=depths,
            layer_type="basic",
        )
    )


def t5(width, depth, heads):
    return transformers.T5ForConditionalGeneration(
        transformers.T5Config(
            vocab_size=50, d_model=width, d_kv=8, d_ff=2 * width, num_layers=depth, num_heads=heads
        )
    )


def gemma(width, depth, heads):
    return transformers.Gemma2ForCausalLM(
        transformers.Gemma2Config(
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=depth,
            num_attention_heads=heads,
            num_key_value_heads=heads // 2,
            head_dim=8,
            **SPECIAL,
        )
    )


def trained(model):
    draws = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.add_(0.1 * torch.randn(tensor.shape, generator=draws))
    return model.eval()


torch.manual_seed(0)
PAIRS = {
    "llama, more groups": (llama(16, 1, 4, 2), llama(32, 1, 8, 4), TOKENS),
    "llama, larger groups": (llama(16, 1, 4, 2), llama(32, 2, 8, 2), TOKENS),
    "llama, from a key a query": (llama(16, 1, 2, 2), llama(16, 1, 4, 2), TOKENS),
    "llama, tied and deeper": (
        llama(16, 1, 2, 1, tie_word_embeddings=True),
        llama(48, 3, 6, 3, tie_word_embeddings=True),
        TOKENS,
    ),
    "mixtral": (mixtral(32, 1, 4), mixtral(64, 2, 8), TOKENS),
    "gpt-neox, interleaved parts": (neox(16, 1, 2), neox(32, 2, 4), TOKENS),
    "gpt-2, transposed kernels": (gpt2(16, 1, 2), gpt2(32, 2, 4), TOKENS),
    "bert, wider": (bert(16, 2, 2), bert(32, 2, 4), TOKENS),
    "t5, tied, constants of the width": (
        t5(16, 1, 2),
        t5(32, 2, 4),
        {**TOKENS, "decoder_input_ids": TOKENS["input_ids"]},
    ),
    "gemma 2, scales of 1 + w": (gemma(16, 1, 2), gemma(32, 2, 4), TOKENS),
    "vit, wider heads": (vit(16, 1, 2), vit(32, 1, 2), IMAGES),
    "vit": (vit(16, 1, 2), vit(32, 2, 4), IMAGES),
    "resnet": (resnet(4, [1, 1]), resnet(6, [2, 3]), IMAGES),
}


@pytest.mark.parametrize("case", PAIRS)
def test_the_function_is_kept(case):
    small, large, inputs = PAIRS[case]
    assert fwt.grow(trained(small), large, inputs, seed=0).error < 2e-6
    given = inputs if isinstance(inputs, dict) else {"pixel_values": inputs}
    before, after = small(**given).logits, large.eval()(**given).logits
    assert torch.allclose(before, after, rtol=1e-4, atol=1e-5)


LOST = {
    "llama, a group more a query": (
        llama(16, 1, 4, 2),
        llama(16, 1, 4, 4),
        TOKENS,
        "'model.layers.0.self_attn.k_proj.weight', of shape (32, 16), is no larger version",
    ),
    "llama, half as wide again": (
        llama(16, 1, 2, 2),
        llama(24, 1, 2, 2),
        TOKENS,
        "a mean is taken over 24 units that copy 16 in 'model.layers.0.input_layernorm' and 2 more",
    ),
    "bert, deeper": (
        bert(16, 1, 2),
        bert(16, 2, 2),
        TOKENS,
        "the new branch of 'bert.encoder.layer.1.attention.self.query.weight' is normalized",
    ),
}


@pytest.mark.parametrize("case", LOST)
def test_what_is_lost_is_named(case):
    small, large, inputs, reason = LOST[case]
    with pytest.raises(ModelError) as caught:
        fwt.grow(trained(small), large, inputs, seed=0)
    assert reason in str(caught.value)
