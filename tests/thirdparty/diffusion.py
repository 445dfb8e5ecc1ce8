"""diffusers: U-Nets, transformers, autoencoders and ControlNets, built small."""

from __future__ import annotations

from typing import Any

import torch
from thirdparty.table import of
from zoo.entry import Entry

B, TEXT = 2, 12
HEADS: dict[str, Any] = {"num_attention_heads": 4, "attention_head_dim": 24}
VIDEO = (16, 2, 8, 8)


def diffuser(name: str, inputs: Any, **config: Any) -> Entry:
    """Return an entry of a class of diffusers, that is asked for a tuple."""
    title = config.pop("title", name)
    return of(f"diffusers:{name}", inputs, name=title, **config)


def times(n: int = B, of: float = 1000.0) -> torch.Tensor:
    return torch.rand(n) * of


def given(x: tuple[int, ...], text: int = 0, **more: Any) -> Any:
    """Return what makes a noisy sample, its time, and a text of this width."""

    def make() -> dict[str, Any]:
        found: dict[str, Any] = {"hidden_states": torch.randn(B, *x), "timestep": times()}
        if text:
            found["encoder_hidden_states"] = torch.randn(B, TEXT, text)
        for key, value in more.items():
            found[key] = value() if callable(value) else value
        return {**found, "return_dict": False}

    return make


def sampled(x: tuple[int, ...], text: int = 0, **more: Any) -> Any:
    """As `given`, for the models that call the sample so."""
    make = given(x, text, **more)

    def renamed() -> dict[str, Any]:
        found = make()
        return {"sample": found.pop("hidden_states"), **found}

    return renamed


def rand(*shape: int) -> Any:
    return lambda: torch.randn(B, *shape)


def ones(*shape: int) -> Any:
    return lambda: torch.ones(B, *shape, dtype=torch.bool)


def ids(n: int, axes: int = 3) -> Any:
    return lambda: torch.arange(n)[:, None].repeat(1, axes).float()


def unet(**more: Any) -> dict[str, Any]:
    return {"block_out_channels": (32, 64), "layers_per_block": 1, "norm_num_groups": 8, **more}


CROSS = unet(
    down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    cross_attention_dim=48,
    attention_head_dim=8,
)
CROSS3 = unet(
    down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
    up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
    cross_attention_dim=48,
    attention_head_dim=8,
)
LATENT = (4, 16, 16)
FLUX: dict[str, Any] = {"in_channels": 16, "num_layers": 1, "num_single_layers": 1, **HEADS}
ROPE = {"axes_dims_rope": (8, 8, 8)}
TOKENS = (16, 16)
WAN: dict[str, Any] = {"in_channels": 16, "out_channels": 16, "text_dim": 48, "freq_dim": 32,
                       "ffn_dim": 192, "num_layers": 2, **HEADS}  # fmt: skip
KL = {"block_out_channels": (32, 64), "layers_per_block": 1, "norm_num_groups": 8,
      "down_block_types": ("DownEncoderBlock2D",) * 2,
      "up_block_types": ("UpDecoderBlock2D",) * 2}  # fmt: skip


def encoded(*shape: int) -> Any:
    return lambda: {"sample": torch.randn(B, *shape), "return_dict": False}


ENTRIES = [
    diffuser("UNet1DModel", sampled((2, 64)), sample_size=64, extra_in_channels=64,
             block_out_channels=(32, 32, 64)),
    diffuser("UNet2DModel", sampled((3, 16, 16)), sample_size=16, attention_head_dim=8,
             down_block_types=("DownBlock2D", "AttnDownBlock2D"),
             up_block_types=("AttnUpBlock2D", "UpBlock2D"), **unet()),
    diffuser("UNet2DModel", sampled((3, 16, 16), class_labels=lambda: torch.tensor([1, 2])),
             title="UNet2DModel, scale and shift", sample_size=16, num_class_embeds=10,
             resnet_time_scale_shift="scale_shift", time_embedding_type="fourier",
             down_block_types=("SkipDownBlock2D", "AttnSkipDownBlock2D"),
             up_block_types=("AttnSkipUpBlock2D", "SkipUpBlock2D"), **unet()),
    diffuser("UNet2DConditionModel", sampled(LATENT, 48), sample_size=16, **CROSS),
    diffuser("UNet2DConditionModel", sampled(LATENT, 48, added_cond_kwargs=lambda: {
             "text_embeds": torch.randn(B, 32), "time_ids": torch.rand(B, 6)}),
             title="UNet2DConditionModel, SDXL", sample_size=16, addition_embed_type="text_time",
             addition_time_embed_dim=8, projection_class_embeddings_input_dim=80,
             use_linear_projection=True, transformer_layers_per_block=(2, 1), **CROSS),
    diffuser("UNet3DConditionModel", sampled((4, 2, 16, 16), 48), sample_size=16, **CROSS3),
    diffuser("UNetMotionModel", sampled((4, 2, 16, 16), 48, encoder_hidden_states=lambda:
             torch.randn(2 * B, TEXT, 48)), sample_size=16, cross_attention_dim=48,
             num_attention_heads=4, motion_num_attention_heads=4,
             down_block_types=("CrossAttnDownBlockMotion", "DownBlockMotion"),
             up_block_types=("UpBlockMotion", "CrossAttnUpBlockMotion"), **unet()),
    diffuser("UNetSpatioTemporalConditionModel", sampled((2, 8, 16, 16), added_time_ids=rand(3),
             encoder_hidden_states=rand(1, 48)), sample_size=16, num_frames=2,
             cross_attention_dim=48,
             addition_time_embed_dim=16, projection_class_embeddings_input_dim=48,
             num_attention_heads=(2, 4), block_out_channels=(32, 64), layers_per_block=1,
             down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
             up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal")),
    diffuser("UVit2DModel", lambda: {"input_ids": torch.randint(60, (B, 8, 8)),
             "encoder_hidden_states": torch.randn(B, TEXT, 48), "pooled_text_emb": torch.randn(B,
             32),
             "micro_conds": torch.rand(B, 5)}, hidden_size=96, cond_embed_dim=32,
             micro_cond_encode_dim=8, micro_cond_embed_dim=40, encoder_hidden_size=48,
             vocab_size=66,
             codebook_size=64, in_channels=32, block_out_channels=32, num_res_blocks=1,
             block_num_heads=4, num_hidden_layers=2, num_attention_heads=4, intermediate_size=192,
             sample_size=8),
    diffuser("StableCascadeUNet", lambda: {"sample": torch.randn(B, 16, 8, 8), "timestep_ratio":
             torch.rand(B), "clip_text_pooled": torch.randn(B, 1, 32), "return_dict": False},
             in_channels=16, out_channels=16,
             conditioning_dim=48, block_out_channels=(32, 64), num_attention_heads=(2, 4),
             down_num_layers_per_block=(1, 1), up_num_layers_per_block=(1, 1),
             clip_text_pooled_in_channels=32, dropout=(0.0, 0.0)),
    # — transformers —
    diffuser("DiTTransformer2DModel", given(LATENT, class_labels=lambda: torch.tensor([1, 2]),
             timestep=lambda: torch.tensor([3, 400])), num_layers=2, sample_size=16,
             norm_num_groups=8, num_embeds_ada_norm=10, **HEADS),
    diffuser("Transformer2DModel", given((32, 8, 8), 48), in_channels=32, num_layers=1,
             cross_attention_dim=48, norm_num_groups=8, **HEADS),
    diffuser("Transformer2DModel", given((32, 8, 8), 48), title="Transformer2DModel, GELU",
             in_channels=32, num_layers=1, cross_attention_dim=48, norm_num_groups=8,
             activation_fn="gelu-approximate", use_linear_projection=True, **HEADS),
    diffuser("PriorTransformer", given((48,), 48,
             proj_embedding=rand(48), timestep=lambda: torch.tensor([3, 400])), num_layers=2,
             embedding_dim=48, num_embeddings=TEXT, **HEADS),
    diffuser("PixArtTransformer2DModel", given(LATENT, 48, added_cond_kwargs=lambda: {
             "resolution": None, "aspect_ratio": None}), num_layers=2, sample_size=16,
             cross_attention_dim=96, caption_channels=48, norm_num_groups=8,
             use_additional_conditions=False, **HEADS),
    diffuser("SanaTransformer2DModel", given(LATENT, 48), in_channels=4, out_channels=4,
             num_layers=2,
             num_cross_attention_heads=4, cross_attention_head_dim=24, cross_attention_dim=96,
             caption_channels=48, sample_size=16, **HEADS),
    diffuser("SD3Transformer2DModel", given((16, 16, 16), 48, pooled_projections=rand(32)),
             sample_size=16, in_channels=16, num_layers=2, joint_attention_dim=48,
             caption_projection_dim=96, pooled_projection_dim=32, pos_embed_max_size=16, **HEADS),
    diffuser("SD3Transformer2DModel", given((16, 16, 16), 48, pooled_projections=rand(32)),
             title="SD3.5Transformer2DModel", sample_size=16, in_channels=16, num_layers=2,
             joint_attention_dim=48, caption_projection_dim=96, pooled_projection_dim=32,
             pos_embed_max_size=16, dual_attention_layers=(0,), qk_norm="rms_norm", **HEADS),
    diffuser("AuraFlowTransformer2DModel", given(LATENT, 48), sample_size=16, num_mmdit_layers=1,
             num_single_dit_layers=1, joint_attention_dim=48, caption_projection_dim=96,
             pos_embed_max_size=64, **HEADS),
    diffuser("FluxTransformer2DModel", given(TOKENS, 48, pooled_projections=rand(32),
             img_ids=ids(16),
             txt_ids=ids(TEXT)), joint_attention_dim=48, pooled_projection_dim=32, **ROPE, **FLUX),
    diffuser("Flux2Transformer2DModel", given(TOKENS, 48, img_ids=ids(16, 4), txt_ids=ids(TEXT, 4),
             guidance=lambda: torch.ones(B)), joint_attention_dim=48, timestep_guidance_channels=32,
             axes_dims_rope=(6, 6, 6, 6), **FLUX),
    diffuser("ChromaTransformer2DModel", given(TOKENS, 48, img_ids=ids(16), txt_ids=ids(TEXT)),
             joint_attention_dim=48, approximator_num_channels=16, approximator_hidden_dim=64,
             approximator_layers=1, **ROPE, **FLUX),
    diffuser("BriaTransformer2DModel", given(TOKENS, 48, img_ids=ids(16), txt_ids=ids(TEXT)),
             joint_attention_dim=48, axes_dims_rope=[8, 8, 8],
             **FLUX),
    diffuser("LongCatImageTransformer2DModel", given(TOKENS, 48, img_ids=ids(16),
             txt_ids=ids(TEXT)),
             joint_attention_dim=48, pooled_projection_dim=32, axes_dims_rope=[8, 8, 8], **FLUX),
    diffuser("OvisImageTransformer2DModel", given(TOKENS, 48, img_ids=ids(16), txt_ids=ids(TEXT)),
             joint_attention_dim=48, out_channels=16, **ROPE, **FLUX),
    diffuser("QwenImageTransformer2DModel", given(TOKENS, 48, img_shapes=[[(1, 4, 4)]] * B,
             encoder_hidden_states_mask=ones(TEXT)), in_channels=16, out_channels=4, num_layers=2,
             joint_attention_dim=48, **ROPE, **HEADS),
    diffuser("HiDreamImageTransformer2DModel", lambda: {"hidden_states":
             torch.randn(B, 4, 8, 8), "timesteps": times(), "encoder_hidden_states_t5":
             torch.randn(B, TEXT, 48), "encoder_hidden_states_llama3": torch.randn(1, B, TEXT, 48),
             "pooled_embeds": torch.randn(B, 32), "return_dict": False}, patch_size=2,
             in_channels=4, out_channels=4, num_layers=1, num_single_layers=1,
             caption_channels=[48, 48],
             text_emb_dim=32, axes_dims_rope=(8, 8, 8), max_resolution=(8, 8), llama_layers=(0, 0),
             **HEADS),
    diffuser("CogView3PlusTransformer2DModel", given((4, 8, 8), 48, original_size=rand(2),
             target_size=rand(2), crop_coords=rand(2)), in_channels=4, out_channels=4, num_layers=2,
             text_embed_dim=48, time_embed_dim=64, condition_dim=16, pos_embed_max_size=8,
             sample_size=8, **HEADS),
    diffuser("CogView4Transformer2DModel", given((4, 8, 8), 48, original_size=rand(2),
             target_size=rand(2), crop_coords=rand(2)), in_channels=4, out_channels=4, num_layers=2,
             text_embed_dim=48, time_embed_dim=64, condition_dim=16, sample_size=8,
             rope_axes_dim=(8, 8), **HEADS),
    diffuser("Lumina2Transformer2DModel", given((4, 8, 8), 48, encoder_attention_mask=ones(TEXT)),
             sample_size=8, in_channels=4, hidden_size=96, num_layers=2, num_refiner_layers=1,
             num_attention_heads=4, num_kv_heads=2, axes_dim_rope=(8, 8, 8), axes_lens=(32, 16, 16),
             multiple_of=32, cap_feat_dim=48),
    diffuser("PRXTransformer2DModel", given((16, 8, 8), 48), context_in_dim=48, hidden_size=96,
             num_heads=4, depth=2, axes_dim=[12, 12]),
    diffuser("StableAudioDiTModel", given((16, 32), 48, global_hidden_states=rand(1, 40)),
             sample_size=32, in_channels=16, num_layers=2, out_channels=16,
             num_key_value_attention_heads=2, cross_attention_dim=48, time_proj_dim=32,
             global_states_input_dim=40, cross_attention_input_dim=48, **HEADS),
    diffuser("AceStepTransformer1DModel", given((16, 8), 48, context_latents=rand(16, 16),
             timestep=lambda: torch.rand(B), timestep_r=lambda: torch.rand(B)), hidden_size=96,
             intermediate_size=192, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, head_dim=24, in_channels=24, audio_acoustic_hidden_dim=8,
             encoder_hidden_size=48),
    diffuser("CogVideoXTransformer3DModel", given((2, 4, 8, 8), 48), in_channels=4, out_channels=4,
             time_embed_dim=32, text_embed_dim=48, num_layers=2, sample_width=8, sample_height=8,
             sample_frames=5, max_text_seq_length=TEXT, **HEADS),
    diffuser("LatteTransformer3DModel", given((4, 2, 8, 8), 48, timestep=lambda:
             torch.tensor([3, 400])), in_channels=4, num_layers=2, cross_attention_dim=96,
             sample_size=8, patch_size=2, norm_type="ada_norm_single", num_embeds_ada_norm=1000,
             norm_elementwise_affine=False, caption_channels=48, video_length=2, **HEADS),
    diffuser("AllegroTransformer3DModel", given((4, 2, 8, 8), 48, attention_mask=ones(2, 8, 8),
             encoder_attention_mask=ones(1, TEXT), image_rotary_emb=None), num_layers=2,
             cross_attention_dim=96, sample_height=8, sample_width=8, sample_frames=2,
             caption_channels=48, **HEADS),
    diffuser("LTXVideoTransformer3DModel", given((32, 8), 48, num_frames=2, height=4, width=4,
             encoder_attention_mask=ones(TEXT)), in_channels=8, out_channels=8,
             cross_attention_dim=96, num_layers=2, caption_channels=48, **HEADS),
    diffuser("MochiTransformer3DModel", given((12, 2, 8, 8), 48, encoder_attention_mask=ones(TEXT)),
             num_layers=2, pooled_projection_dim=48, text_embed_dim=48, time_embed_dim=32,
             **HEADS),
    diffuser("HunyuanVideoTransformer3DModel", given(VIDEO, 48, encoder_attention_mask=ones(TEXT),
             pooled_projections=rand(32), guidance=lambda: torch.ones(B)), num_layers=1,
             num_single_layers=1, num_refiner_layers=1, text_embed_dim=48, pooled_projection_dim=32,
             rope_axes_dim=(8, 8, 8), **HEADS),
    diffuser("HunyuanImageTransformer2DModel", given((16, 8, 8), 48,
             encoder_attention_mask=ones(TEXT)),
             in_channels=16, out_channels=16, num_layers=1, num_single_layers=1,
             num_refiner_layers=1,
             text_embed_dim=48, rope_axes_dim=(12, 12), **HEADS),
    diffuser("HunyuanDiT2DModel", given((4, 8, 8), 48, text_embedding_mask=ones(TEXT),
             encoder_hidden_states_t5=rand(TEXT, 40), text_embedding_mask_t5=ones(TEXT),
             image_meta_size=rand(6), style=lambda: torch.zeros(B, dtype=torch.long)),
             in_channels=4,
             patch_size=2, sample_size=8, hidden_size=96, num_layers=2, cross_attention_dim=48,
             cross_attention_dim_t5=40, pooled_projection_dim=32, text_len=TEXT, text_len_t5=TEXT,
             **HEADS),
    diffuser("WanTransformer3DModel", given(VIDEO, 48), **WAN),
    diffuser("WanVACETransformer3DModel", given(VIDEO, 48, control_hidden_states=rand(24, 2, 8, 8)),
             vace_layers=[0], vace_in_channels=24, **WAN),
    diffuser("SkyReelsV2Transformer3DModel", given(VIDEO, 48), **WAN),
    diffuser("ChronoEditTransformer3DModel", given(VIDEO, 48), **WAN),
    diffuser("CosmosTransformer3DModel", given(VIDEO, 48, padding_mask=lambda:
             torch.zeros(1, 1, 8, 8), fps=16), num_layers=2, text_embed_dim=48, adaln_lora_dim=16,
             max_size=(4, 16, 16), **HEADS),
    diffuser("ZImageTransformer2DModel", lambda: {"x": [torch.randn(16, 1, 8, 8)] * B,
             "t": torch.rand(B), "cap_feats": [torch.randn(TEXT, 48)] * B, "return_dict": False},
             dim=96, n_layers=2, n_refiner_layers=1, n_heads=4, n_kv_heads=4, cap_feat_dim=48,
             axes_dims=[8, 8, 8], axes_lens=[64, 16, 16]),
    diffuser("Kandinsky5Transformer3DModel", lambda: {"hidden_states": torch.randn(1, 2, 8, 8, 4),
             "encoder_hidden_states": torch.randn(1, TEXT, 48), "timestep": torch.rand(1),
             "pooled_projections": torch.randn(1, 32), "visual_rope_pos":
             [torch.arange(2), torch.arange(4), torch.arange(4)],
             "text_rope_pos": torch.arange(TEXT),
             "return_dict": False}, in_text_dim=48, in_text_dim2=32, time_dim=32, model_dim=96,
             ff_dim=192, num_text_blocks=1, num_visual_blocks=2, axes_dims=(8, 8, 8)),
    diffuser("T5FilmDecoder", lambda: {"encodings_and_masks": [(torch.randn(B, 6, 96),
             torch.ones(B, 6))], "decoder_input_tokens": torch.randn(B, 8, 16),
             "decoder_noise_time": torch.rand(B)}, input_dims=16, targets_length=8, d_model=96,
             num_layers=2, num_heads=4, d_kv=24, d_ff=192, dropout_rate=0.0),
    # — autoencoders —
    diffuser("AutoencoderKL", encoded(3, 32, 32), **KL),
    diffuser("AsymmetricAutoencoderKL", encoded(3, 32, 32), norm_num_groups=8,
             down_block_types=("DownEncoderBlock2D",) * 2, down_block_out_channels=(32, 64),
             up_block_types=("UpDecoderBlock2D",) * 2, up_block_out_channels=(32, 64)),
    diffuser("AutoencoderKLTemporalDecoder", lambda: {"sample": torch.randn(2, 3, 32, 32),
             "num_frames": 2, "return_dict": False}, block_out_channels=(32, 64),
             layers_per_block=1,
             down_block_types=("DownEncoderBlock2D",) * 2),
    diffuser("AutoencoderTiny", encoded(3, 32, 32), encoder_block_out_channels=(32, 32),
             decoder_block_out_channels=(32, 32), num_encoder_blocks=(1, 1), num_decoder_blocks=(1,
             1)),
    diffuser("AutoencoderDC", encoded(3, 32, 32), latent_channels=8, attention_head_dim=8,
             encoder_block_types=("ResBlock", "EfficientViTBlock"),
             decoder_block_types=("ResBlock", "EfficientViTBlock"),
             encoder_block_out_channels=(32, 64), decoder_block_out_channels=(32, 64),
             encoder_layers_per_block=(1, 1), decoder_layers_per_block=(1, 1),
             encoder_qkv_multiscales=((), (5,)), decoder_qkv_multiscales=((), (5,))),
    diffuser("VQModel", encoded(3, 32, 32), block_out_channels=(32, 64), norm_num_groups=8,
             down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
             num_vq_embeddings=64),
    diffuser("AutoencoderOobleck", encoded(2, 128), encoder_hidden_size=32,
             downsampling_ratios=[2, 4], channel_multiples=[1, 2], decoder_channels=32,
             decoder_input_channels=16),
    diffuser("AutoencoderKLCogVideoX", encoded(3, 5, 16, 16), block_out_channels=(32, 64),
             layers_per_block=1, norm_num_groups=8, down_block_types=("CogVideoXDownBlock3D",) * 2,
             up_block_types=("CogVideoXUpBlock3D",) * 2, temporal_compression_ratio=2),
    diffuser("AutoencoderKLWan", encoded(3, 1, 16, 16), base_dim=16, z_dim=8, dim_mult=[1, 2, 2, 2],
             num_res_blocks=1, temperal_downsample=[False, True, True], latents_mean=[0.0] * 8,
             latents_std=[1.0] * 8),
    diffuser("AutoencoderKLLTXVideo", encoded(3, 9, 32, 32), block_out_channels=(16, 32, 32),
             decoder_block_out_channels=(16, 32, 32), layers_per_block=(1, 1, 1, 1),
             decoder_layers_per_block=(1, 1, 1, 1), spatio_temporal_scaling=(True, True, False),
             decoder_spatio_temporal_scaling=(True, True, False), latent_channels=16, patch_size=1,
             down_block_types=("LTXVideoDownBlock3D",) * 3, decoder_inject_noise=(False,) * 4,
             upsample_residual=(False,) * 3, upsample_factor=(1,) * 3),
    diffuser("AutoencoderKLMagvit", encoded(3, 5, 16, 16), block_out_channels=[32, 32, 32, 32],
             layers_per_block=1, norm_num_groups=8, latent_channels=4),
    diffuser("AutoencoderKLHunyuanVideo", encoded(3, 5, 16, 16), block_out_channels=(16, 32, 32,
             32),
             layers_per_block=1, norm_num_groups=8),
    diffuser("AutoencoderKLQwenImage", encoded(3, 1, 16, 16), base_dim=16, z_dim=16,
             dim_mult=[1, 2, 2, 2], num_res_blocks=1),
    diffuser("AutoencoderKLFlux2", encoded(3, 32, 32), **KL),
    # — controls —
    diffuser("ControlNetModel", sampled(LATENT, 48, controlnet_cond=rand(3, 32, 32)),
             block_out_channels=(32, 64), layers_per_block=1, norm_num_groups=8,
             down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), cross_attention_dim=48,
             attention_head_dim=8, conditioning_embedding_out_channels=(16, 32)),
    diffuser("FluxControlNetModel", given(TOKENS, 48, controlnet_cond=rand(16, 16),
             pooled_projections=rand(32), img_ids=ids(16), txt_ids=ids(TEXT)),
             joint_attention_dim=48,
             pooled_projection_dim=32, axes_dims_rope=[8, 8, 8], **FLUX),
    diffuser("SD3ControlNetModel", given((16, 16, 16), 48, controlnet_cond=rand(16, 16, 16),
             pooled_projections=rand(32)), sample_size=16, in_channels=16, num_layers=2,
             joint_attention_dim=48, caption_projection_dim=96, pooled_projection_dim=32,
             pos_embed_max_size=16, **HEADS),
    diffuser("T2IAdapter", lambda: (torch.randn(B, 3, 64, 64),), in_channels=3, channels=[32, 64],
             num_res_blocks=1, downscale_factor=8),
    diffuser("HunyuanDiT2DControlNetModel", given((4, 8, 8), 48,
             controlnet_cond=rand(4, 8, 8), text_embedding_mask=ones(TEXT),
             encoder_hidden_states_t5=rand(TEXT, 40), text_embedding_mask_t5=ones(TEXT),
             image_meta_size=rand(6), style=lambda: torch.zeros(B, dtype=torch.long)),
             in_channels=4,
             patch_size=2, sample_size=8, hidden_size=96, transformer_num_layers=4,
             cross_attention_dim=48, cross_attention_dim_t5=40, pooled_projection_dim=32,
             text_len=TEXT, text_len_t5=TEXT, **HEADS),
]  # fmt: skip
