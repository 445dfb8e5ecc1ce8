"""x-transformers: one model an option that changes what is computed."""

from __future__ import annotations

from typing import Any

import torch
from thirdparty.table import ids, late, of
from zoo.entry import Entry

WORDS, LENGTH = 500, 24
TOKENS = ids(8, LENGTH, of=WORDS)
SMALL: dict[str, Any] = {"dim": 128, "depth": 2, "heads": 4, "attn_dim_head": 32}


def layers(name: str, kind: str = "Decoder", **options: Any) -> Entry:
    """Return a language model whose layers have these options."""
    wrapper = {k[6:]: options.pop(k) for k in list(options) if k.startswith("outer_")}
    inputs = options.pop("inputs", TOKENS)
    return of(
        "x_transformers:TransformerWrapper",
        inputs,
        name=name,
        num_tokens=WORDS,
        max_seq_len=LENGTH,
        attn_layers=late(f"x_transformers:{kind}", **{**SMALL, **options}),
        **wrapper,
    )


def conditioned() -> dict[str, torch.Tensor]:
    return {"x": TOKENS()[0], "condition": torch.randn(8, 64)}


ENTRIES = [
    layers("decoder"),
    layers("encoder", "Encoder"),
    layers("prefix decoder", "PrefixDecoder"),
    layers("rotary, SwiGLU, RMSNorm", rotary_pos_emb=True, ff_swish=True, ff_glu=True,
           use_rmsnorm=True, ff_no_bias=True),
    layers("xpos", rotary_xpos=True),
    layers("PoPE", polar_pos_emb=True),
    layers("ALiBi", alibi_pos_bias=True, alibi_num_heads=2),
    layers("data-dependent ALiBi", attn_data_dependent_alibi=True),
    layers("T5 bias", rel_pos_bias=True),
    layers("dynamic position bias", dynamic_pos_bias=True),
    layers("CoPE", attn_use_cope=True),
    layers("scale norm", use_scalenorm=True),
    layers("simple RMS norm", use_simple_rmsnorm=True),
    layers("dynamic tanh", use_dynamic_tanh=True),
    layers("Derf", use_derf=True),
    layers("adaptive layer norm zero", use_adaptive_layernorm=True, use_adaptive_layerscale=True,
           dim_condition=64, inputs=conditioned),
    layers("adaptive RMS norm", use_adaptive_rmsnorm=True, dim_condition=64, inputs=conditioned),
    layers("sandwich norm", sandwich_norm=True),
    layers("post-norm", pre_norm=False),
    layers("pre- and post-norm", pre_and_post_norm=True),
    layers("sandwich coefficient", sandwich_coef=1),
    layers("macaron", macaron=True),
    layers("residual attention", residual_attn=True),
    layers("GRU gating", gate_residual=True),
    layers("orthogonal residual", orthog_residual=True),
    layers("scaled residual", scale_residual=True),
    layers("layer scale", use_layerscale=True),
    layers("zero branches", zero_init_branch_output=True),
    layers("shifted tokens", shift_tokens=1),
    layers("softclamp", softclamp_output=True, attn_softclamp_logits=True),
    layers("U-Net skips", unet_skips=True),
    layers("hyper-connections", num_residual_streams=4),
    layers("LIMe", integrate_layers=True),
    layers("attention residuals", attn_aggregated_residuals=True),
    layers("gated multi-residual", gated_multi_residual=True, num_residual_streams=2,
           residual_fn_kwargs={"read_gate_rank": 8}),
    layers("MV split residual", mv_split_residual=True),
    layers("re-injected input", reinject_input=True, learned_reinject_input_gate=True),
    layers("value residual", add_value_residual=True),
    layers("tied layers", weight_tie_layers=True),
    layers("ReLU²", ff_relu_squared=True),
    layers("SoLU", ff_solu=True),
    layers("feed-forward norm", ff_post_act_ln=True),
    layers("talking heads", attn_pre_talking_heads=True, attn_post_talking_heads=True),
    layers("sparse top-k", attn_sparse_topk=4),
    layers("query–key norm", attn_qk_norm=True, attn_qk_norm_dim_scale=True),
    layers("gated values", attn_gate_values=True, attn_gate_value_heads=True),
    layers("one key head", attn_kv_heads=1),
    layers("two key heads", attn_kv_heads=2),
    layers("attention on attention", attn_on_attn=True),
    layers("memory keys", attn_num_mem_kv=4),
    layers("selective attention", attn_selective=True),
    layers("LASER", attn_laser=True),
    layers("head scale", attn_head_scale=True),
    layers("latent queries", attn_use_latent_q=True, attn_dim_latent_q=32),
    layers("latent keys and values", attn_use_latent_kv=True, attn_dim_latent_kv=32),
    layers("memory tokens", outer_num_memory_tokens=4),
    layers("tied embedding", outer_tie_embedding=True),
    layers("L2-normed embedding", outer_l2norm_embed=True),
    layers("sinusoids", outer_scaled_sinu_pos_emb=True),
    layers("mixture of softmax", outer_mixture_of_softmax=True, outer_mixture_of_softmax_k=2),
    layers("embedding of 64", outer_emb_dim=64),
    layers("average pooling", outer_average_pool_embed=True),
    layers("sigsoftmax", outer_sigsoftmax_logits=True),
    layers("class token", "Encoder", outer_use_cls_token=True),
    of("x_transformers:XTransformer", lambda: (TOKENS()[0], TOKENS()[0]), dim=128,
       enc_num_tokens=WORDS, enc_depth=2, enc_heads=4, enc_max_seq_len=LENGTH, dec_num_tokens=WORDS,
       dec_depth=2, dec_heads=4, dec_max_seq_len=LENGTH, enc_attn_dim_head=32,
       dec_attn_dim_head=32),
    of("x_transformers:ViTransformerWrapper", lambda: (torch.randn(16, 3, 32, 32),), image_size=32,
       patch_size=8, num_classes=100, attn_layers=late("x_transformers:Encoder", **SMALL)),
    of("x_transformers:ContinuousTransformerWrapper", lambda: (torch.randn(8, LENGTH, 32),),
       dim_in=32, dim_out=50, max_seq_len=LENGTH, attn_layers=late("x_transformers:Decoder",
       **SMALL)),
    of("x_transformers:XValTransformerWrapper", lambda: (TOKENS()[0], torch.randn(8, LENGTH)),
       num_tokens=WORDS, numerical_token_id=3, max_seq_len=LENGTH,
       attn_layers=late("x_transformers:Decoder", **SMALL)),
    of("x_transformers:MultiInputTransformerWrapper",
       lambda: ({"note": TOKENS()[0], "pitch": TOKENS()[0]},),
       num_tokens={"note": WORDS, "pitch": WORDS}, max_seq_len=LENGTH,
       attn_layers=late("x_transformers:Decoder", **SMALL)),
    of("x_transformers:AutoregressiveWrapper", TOKENS, late("x_transformers:TransformerWrapper",
       num_tokens=WORDS, max_seq_len=LENGTH, attn_layers=late("x_transformers:Decoder", **SMALL))),
    of("x_transformers:NeoMLP", lambda: (torch.randn(32, 5),), dim_in=5, dim_hidden=16, dim_out=7,
       depth=2, dim_model=96),
]  # fmt: skip
