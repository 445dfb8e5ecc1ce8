"""Architectures of `transformers` that read and write text."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from zoo.configured import BATCH, IDS, LABELS, LENGTH, VOCABULARY, labels, model, tokens
from zoo.entry import Entry

MODERN = {
    "vocab_size": VOCABULARY,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    **IDS,
}
"""What decoders since Llama and encoders since BERT call their sizes."""
GROUPED = {**MODERN, "num_key_value_heads": 2}
OLD = {"vocab_size": VOCABULARY, "n_positions": 64, "n_embd": 128, "n_layer": 3, "n_head": 4, **IDS}
"""What decoders up to GPT-J call them."""
MIXTURE = {**GROUPED, "num_experts_per_tok": 2}
SEQ2SEQ = {
    "vocab_size": VOCABULARY,
    "d_model": 128,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 256,
    "decoder_ffn_dim": 256,
    "max_position_embeddings": 64,
    "decoder_start_token_id": 1,
    "encoder_layerdrop": 0.0,
    "decoder_layerdrop": 0.0,
    **IDS,
}
T5 = {
    "vocab_size": VOCABULARY,
    "d_model": 128,
    "d_kv": 32,
    "d_ff": 256,
    "num_layers": 2,
    "num_decoder_layers": 2,
    "num_heads": 4,
    "decoder_start_token_id": 0,
    "pad_token_id": 0,
    "eos_token_id": 2,
}


def causal() -> dict[str, Any]:
    """A causal model sees the past only, so its labels may be its inputs."""
    ids = tokens()
    return {"input_ids": ids, "labels": ids, "use_cache": False}


def masked() -> dict[str, Any]:
    return {"input_ids": tokens(), "labels": tokens()}


def classified() -> dict[str, Any]:
    return {"input_ids": tokens(), "labels": labels()}


def translated() -> dict[str, Any]:
    return {"input_ids": tokens(), "labels": tokens(BATCH, 16), "use_cache": False}


def globally() -> dict[str, Any]:
    """The first token is seen by all, and sees all."""
    return {"global_attention_mask": torch.eye(LENGTH, dtype=torch.long)[0].expand(BATCH, LENGTH)}


def permuted() -> dict[str, Any]:
    """XLNet predicts the last tokens, each from those before it; two segments."""
    order, last = torch.arange(LENGTH), 4
    return {
        "input_ids": tokens(),
        "token_type_ids": (order >= LENGTH // 2).long().expand(BATCH, LENGTH),
        "perm_mask": (order[:, None] <= order).float().expand(BATCH, LENGTH, LENGTH),
        "target_mapping": torch.eye(LENGTH)[-last:].expand(BATCH, last, LENGTH),
        "labels": tokens(BATCH, last),
        "use_mems": False,
    }


def decoder(
    name: str, class_name: str, config: dict[str, Any], family: str = "decoder", **more: Any
) -> Entry:
    return model(name, family, class_name, config, causal, VOCABULARY, **more)


mixture = partial(decoder, family="mixture of experts")
state_space = partial(decoder, family="state space")


def encoder(name: str, class_name: str, config: dict[str, Any], **more: Any) -> Entry:
    return model(name, "encoder", class_name, config, masked, VOCABULARY, **more)


def both(name: str, class_name: str, config: dict[str, Any], **more: Any) -> Entry:
    return model(name, "encoder–decoder", class_name, config, translated, VOCABULARY, **more)


DECODERS = [
    decoder("gpt2", "GPT2LMHeadModel", OLD, fast=True),
    decoder("openai-gpt", "OpenAIGPTLMHeadModel", OLD),
    decoder(
        "gpt-neo",
        "GPTNeoForCausalLM",
        {
            **MODERN,
            "num_hidden_layers": 2,
            "attention_types": [[["global", "local"], 1]],
            "window_size": 8,
        },
    ),
    decoder("gpt-neox", "GPTNeoXForCausalLM", MODERN),
    decoder("gptj", "GPTJForCausalLM", {**OLD, "rotary_dim": 16}),
    decoder("gpt-bigcode", "GPTBigCodeForCausalLM", OLD),
    decoder("codegen", "CodeGenForCausalLM", {**OLD, "rotary_dim": 16}),
    decoder("llama", "LlamaForCausalLM", GROUPED, fast=True),
    decoder("mistral", "MistralForCausalLM", {**GROUPED, "sliding_window": 8}),
    decoder("qwen2", "Qwen2ForCausalLM", GROUPED),
    decoder("qwen3", "Qwen3ForCausalLM", {**GROUPED, "head_dim": 32}),
    decoder("gemma", "GemmaForCausalLM", {**GROUPED, "head_dim": 32}),
    decoder("gemma2", "Gemma2ForCausalLM", {**GROUPED, "head_dim": 32, "sliding_window": 8}),
    decoder("gemma3", "Gemma3ForCausalLM", {**GROUPED, "head_dim": 32, "sliding_window": 8}),
    decoder("phi", "PhiForCausalLM", MODERN),
    decoder("phi3", "Phi3ForCausalLM", GROUPED),
    decoder("opt", "OPTForCausalLM", {**MODERN, "ffn_dim": 256, "word_embed_proj_dim": 64}),
    decoder("bloom", "BloomForCausalLM", OLD | {"hidden_size": 128}),
    decoder("falcon", "FalconForCausalLM", MODERN),
    decoder("mpt", "MptForCausalLM", MODERN | {"d_model": 128, "n_heads": 4, "n_layers": 3}),
    decoder("stablelm", "StableLmForCausalLM", GROUPED),
    decoder("olmo", "OlmoForCausalLM", GROUPED),
    decoder("olmo2", "Olmo2ForCausalLM", GROUPED),
    decoder("granite", "GraniteForCausalLM", GROUPED),
    decoder("cohere", "CohereForCausalLM", GROUPED),
    decoder("starcoder2", "Starcoder2ForCausalLM", GROUPED),
    decoder("nemotron", "NemotronForCausalLM", GROUPED),
    decoder("glm", "GlmForCausalLM", {**GROUPED, "head_dim": 32}),
    decoder("persimmon", "PersimmonForCausalLM", MODERN),
    decoder("biogpt", "BioGptForCausalLM", MODERN),
    decoder(
        "xglm", "XGLMForCausalLM", {**OLD, "d_model": 128, "num_layers": 2, "attention_heads": 4}
    ),
    decoder("ctrl", "CTRLLMHeadModel", {**OLD, "dff": 256}),
    decoder("diffllama", "DiffLlamaForCausalLM", GROUPED),
    decoder("bitnet", "BitNetForCausalLM", GROUPED),
    decoder("nanochat", "NanoChatForCausalLM", GROUPED),
    decoder("smollm3", "SmolLM3ForCausalLM", GROUPED),
    decoder("apertus", "ApertusForCausalLM", GROUPED),
    decoder("doge", "DogeForCausalLM", GROUPED),
]
MIXTURES = [
    mixture("mixtral", "MixtralForCausalLM", {**MIXTURE, "num_local_experts": 4}),
    mixture(
        "qwen3-moe",
        "Qwen3MoeForCausalLM",
        {**MIXTURE, "num_experts": 4, "moe_intermediate_size": 64, "head_dim": 32},
    ),
    mixture("olmoe", "OlmoeForCausalLM", {**MIXTURE, "num_experts": 4}),
    mixture(
        "deepseek-v3",
        "DeepseekV3ForCausalLM",
        {
            **MODERN,
            "num_key_value_heads": 4,
            "moe_intermediate_size": 64,
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "n_group": 2,
            "topk_group": 1,
            "first_k_dense_replace": 1,
            "q_lora_rank": 48,
            "kv_lora_rank": 32,
            "qk_rope_head_dim": 16,
            "qk_nope_head_dim": 32,
            "v_head_dim": 32,
        },
    ),
    mixture(
        "gpt-oss",
        "GptOssForCausalLM",
        {**MIXTURE, "num_local_experts": 4, "head_dim": 32, "sliding_window": 8},
    ),
    mixture("granitemoe", "GraniteMoeForCausalLM", {**MIXTURE, "num_local_experts": 4}),
    model(
        "switch-transformers",
        "mixture of experts",
        "SwitchTransformersForConditionalGeneration",
        {**T5, "num_experts": 4, "num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1},
        translated,
        VOCABULARY,
    ),
    mixture(
        "minimax",
        "MiniMaxForCausalLM",
        {**MIXTURE, "num_local_experts": 4, "head_dim": 32},
    ),
    model(
        "nllb-moe",
        "mixture of experts",
        "NllbMoeForConditionalGeneration",
        {**SEQ2SEQ, "num_experts": 2, "encoder_sparse_step": 2, "decoder_sparse_step": 2},
        translated,
        VOCABULARY,
        draws=8,
    ),
]
STATE_SPACE = [
    state_space("mamba", "MambaForCausalLM", {**MODERN, "state_size": 8}),
    state_space(
        "mamba2",
        "Mamba2ForCausalLM",
        {**MODERN, "num_heads": 8, "head_dim": 32, "state_size": 16, "n_groups": 2},
    ),
    state_space("falcon-mamba", "FalconMambaForCausalLM", {**MODERN, "state_size": 8}),
    state_space("rwkv", "RwkvForCausalLM", {**MODERN, "attention_hidden_size": 128}),
    state_space(
        "recurrent-gemma",
        "RecurrentGemmaForCausalLM",
        {**GROUPED, "lru_width": 128, "attention_window_size": 16},
    ),
    state_space(
        "jamba",
        "JambaForCausalLM",
        {
            **MIXTURE,
            "num_experts": 4,
            "attn_layer_period": 3,
            "attn_layer_offset": 1,
            "expert_layer_period": 2,
            "mamba_d_state": 8,
            "use_mamba_kernels": False,
        },
    ),
    state_space(
        "qwen3-next",
        "Qwen3NextForCausalLM",
        {
            **MIXTURE,
            "num_hidden_layers": 4,
            "head_dim": 32,
            "num_experts": 4,
            "moe_intermediate_size": 64,
            "shared_expert_intermediate_size": 64,
            "linear_num_value_heads": 4,
            "linear_num_key_heads": 2,
            "linear_key_head_dim": 32,
            "linear_value_head_dim": 32,
        },
    ),
    state_space(
        "lfm2", "Lfm2ForCausalLM", {**GROUPED, "layer_types": ["conv", "full_attention", "conv"]}
    ),
    state_space(
        "bamba",
        "BambaForCausalLM",
        {
            **GROUPED,
            "mamba_n_heads": 8,
            "mamba_d_head": 32,
            "mamba_d_state": 16,
            "attn_layer_indices": [1],
        },
    ),
    state_space(
        "xlstm",
        "xLSTMForCausalLM",
        {**MODERN, "num_heads": 4, "embedding_dim": 128, "num_blocks": 2},
    ),
]
ENCODERS = [
    encoder("bigbird", "BigBirdForMaskedLM", {**MODERN, "attention_type": "original_full"}),
    encoder(
        "perceiver",
        "PerceiverForMaskedLM",
        {
            "vocab_size": VOCABULARY,
            "d_model": 64,
            "d_latents": 96,
            "num_latents": 16,
            "num_blocks": 1,
            "num_self_attends_per_block": 2,
            "num_self_attention_heads": 4,
            "num_cross_attention_heads": 4,
            "max_position_embeddings": LENGTH,
        },
    ),
    encoder(
        "rembert",
        "RemBertForMaskedLM",
        {**MODERN, "input_embedding_size": 64, "output_embedding_size": 96},
    ),
    encoder("nomic-bert", "NomicBertForMaskedLM", MODERN),
    encoder("bert", "BertForMaskedLM", MODERN, fast=True),
    encoder("roberta", "RobertaForMaskedLM", MODERN),
    encoder(
        "distilbert",
        "DistilBertForMaskedLM",
        {**MODERN, "dim": 128, "hidden_dim": 256, "n_layers": 3, "n_heads": 4},
    ),
    encoder("albert", "AlbertForMaskedLM", {**MODERN, "embedding_size": 64}, fast=True),
    encoder("electra", "ElectraForMaskedLM", {**MODERN, "embedding_size": 64}),
    encoder(
        "deberta",
        "DebertaForMaskedLM",
        {**MODERN, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    ),
    encoder(
        "deberta-v2",
        "DebertaV2ForMaskedLM",
        {
            **MODERN,
            "relative_attention": True,
            "pos_att_type": ["c2p", "p2c"],
            "conv_kernel_size": 3,
        },
    ),
    encoder("mpnet", "MPNetForMaskedLM", MODERN),
    encoder("modernbert", "ModernBertForMaskedLM", {**MODERN, "local_attention": 8}),
    encoder("squeezebert", "SqueezeBertForMaskedLM", {**MODERN, "embedding_size": 128}),
    encoder("fnet", "FNetForMaskedLM", MODERN),
    encoder("roformer", "RoFormerForMaskedLM", {**MODERN, "embedding_size": 128}),
    encoder("convbert", "ConvBertForMaskedLM", {**MODERN, "embedding_size": 64}, draws=4),
    encoder(
        "mobilebert",
        "MobileBertForMaskedLM",
        {**MODERN, "embedding_size": 64, "intra_bottleneck_size": 64, "true_hidden_size": 64},
        draws=4,
    ),
    encoder(
        "nystromformer",
        "NystromformerForMaskedLM",
        {**MODERN, "num_landmarks": 8, "segment_means_seq_len": 24},
    ),
    model(
        "longformer",
        "encoder",
        "LongformerForMaskedLM",
        {**MODERN, "attention_window": 8},
        lambda: masked() | globally(),
        VOCABULARY,
    ),
    model(
        "xlm-roberta",
        "encoder",
        "XLMRobertaForSequenceClassification",
        {**MODERN, "num_labels": LABELS},
        classified,
        LABELS,
    ),
    encoder(
        "funnel",
        "FunnelForMaskedLM",
        {
            "vocab_size": VOCABULARY,
            "block_sizes": [1, 1],
            "d_model": 128,
            "n_head": 4,
            "d_head": 32,
            "d_inner": 256,
        },
    ),
    encoder("eurobert", "EuroBertForMaskedLM", GROUPED),
    model(
        "xlnet",
        "encoder",
        "XLNetLMHeadModel",
        {
            "vocab_size": VOCABULARY,
            **IDS,
            "d_model": 128,
            "n_layer": 3,
            "n_head": 4,
            "d_inner": 256,
        },
        permuted,
        VOCABULARY,
    ),
    encoder("layoutlm", "LayoutLMForMaskedLM", MODERN),
]
ENCODER_DECODERS = [
    both("t5", "T5ForConditionalGeneration", T5, fast=True),
    both("mt5", "MT5ForConditionalGeneration", {**T5, "feed_forward_proj": "gated-gelu"}),
    both("umt5", "UMT5ForConditionalGeneration", T5),
    both(
        "longt5",
        "LongT5ForConditionalGeneration",
        {
            **T5,
            "encoder_attention_type": "transient-global",
            "local_radius": 4,
            "global_block_size": 4,
        },
    ),
    both("bart", "BartForConditionalGeneration", SEQ2SEQ),
    both("pegasus", "PegasusForConditionalGeneration", SEQ2SEQ),
    both("marian", "MarianMTModel", SEQ2SEQ),
    both("mbart", "MBartForConditionalGeneration", SEQ2SEQ),
    both(
        "pegasus-x",
        "PegasusXForConditionalGeneration",
        {**SEQ2SEQ, "num_global_tokens": 4, "block_size": 8},
    ),
    both("m2m-100", "M2M100ForConditionalGeneration", SEQ2SEQ),
    both("blenderbot", "BlenderbotForConditionalGeneration", SEQ2SEQ),
    model(
        "led",
        "encoder–decoder",
        "LEDForConditionalGeneration",
        {**SEQ2SEQ, "attention_window": 8},
        lambda: translated() | globally(),
        VOCABULARY,
    ),
    both(
        "prophetnet",
        "ProphetNetForConditionalGeneration",
        {
            "vocab_size": VOCABULARY,
            **IDS,
            "encoder_ffn_dim": 256,
            "decoder_ffn_dim": 256,
            "max_position_embeddings": 64,
            "decoder_start_token_id": 1,
            "hidden_size": 128,
            "num_encoder_layers": 2,
            "num_decoder_layers": 2,
            "num_encoder_attention_heads": 4,
            "num_decoder_attention_heads": 4,
        },
    ),
]
ENTRIES = [*DECODERS, *MIXTURES, *STATE_SPACE, *ENCODERS, *ENCODER_DECODERS]
