"""vit-pytorch: one model a file of the package."""

from __future__ import annotations

from typing import Any

import torch
from thirdparty.table import CLASSES, late, normal, of
from zoo.entry import Entry

SMALL: dict[str, Any] = {"dim": 96, "depth": 2, "heads": 4, "mlp_dim": 192, "dim_head": 24}
PATCHES: dict[str, Any] = {"image_size": 32, "patch_size": 8, "num_classes": CLASSES, **SMALL}
FRAMES: dict[str, Any] = {
    "image_size": 16,
    "frames": 4,
    "frame_patch_size": 2,
    "num_classes": CLASSES,
}
PICTURES = normal(16, 3, 32, 32)
VIDEOS = normal(8, 3, 4, 16, 16)


def vit(module: str, name: str = "ViT", inputs: Any = PICTURES, **config: Any) -> Entry:
    """Return an entry of vit-pytorch: patches of 8×8, a small transformer,
    unless `config` says else."""
    title = config.pop("title", module)
    return of(f"vit_pytorch.{module}:{name}", inputs, name=title, **config)


def patches(module: str, name: str = "ViT", **config: Any) -> Entry:
    return vit(module, name, **{**PATCHES, **config})


STAGES = {"s1_emb_dim": 48, "s2_emb_dim": 64, "s3_emb_dim": 96}
PLAIN = late("vit_pytorch.vit:ViT", **PATCHES)
ENTRIES = [
    patches("vit"),
    patches("simple_vit", "SimpleViT"),
    patches("deepvit", "DeepViT"),
    patches("vit_5"),
    patches("vit_for_small_dataset"),
    patches("vit_with_patch_dropout"),
    patches("vit_with_patch_merger", patch_merge_layer=1),
    patches("vit_with_decorr"),
    patches("vit_with_keel_post_ln"),
    patches("vit_detpool", "ViTDetPool"),
    patches("parallel_vit"),
    patches("learnable_memory_vit"),
    patches("rvt", "RvT"),
    patches("ats_vit", max_tokens_per_depth=(16, 8)),
    patches("cait", "CaiT", cls_depth=1),
    patches("xcit", "XCiT", cls_depth=1),
    patches("pit", "PiT", image_size=56, depth=(1, 1), patch_size=14, inputs=normal(8, 3, 56, 56)),
    patches("normalized_vit", "nViT"),
    patches("jet_vit", "JetViT", window_size=4, patch_size=4),
    patches("jumbo_vit", "JumboViT", mlp_dim=2),
    patches("simple_flash_attn_vit", "SimpleViT"),
    patches("simple_uvit", "SimpleUViT"),
    patches("simple_vit_attn_residual", "SimpleViTAttnResidual"),
    patches("simple_vit_orthog_residual_update", "SimpleViT"),
    patches("simple_vit_with_fft", "SimpleViT", freq_patch_size=8),
    patches("simple_vit_with_hyper_connections", "SimpleViT", num_residual_streams=4),
    patches("simple_vit_with_patch_dropout", "SimpleViT"),
    patches("simple_vit_with_qk_norm", "SimpleViT"),
    patches("simple_vit_with_register_tokens", "SimpleViT"),
    patches("simple_vit_with_relative_proj_pos_bias", "SimpleViT"),
    patches("simple_vit_with_sparse_gating", "SimpleViTWithSparseGating"),
    patches("simple_vit_with_specialized_cls", "SimpleViT"),
    patches("simple_vit_with_value_residual", "SimpleViT"),
    patches("attn_residual_with_dca_simple_vit", "SimpleViT"),
    patches("mp3"),
    patches("wwt", "WWT", num_slots=4),
    vit("vit_1d", seq_len=64, inputs=normal(16, 3, 64), patch_size=8, num_classes=CLASSES, **SMALL),
    vit("simple_vit_1d", "SimpleViT", seq_len=64, inputs=normal(16, 3, 64), patch_size=8,
        num_classes=CLASSES, **SMALL),
    vit("vit_3d", inputs=VIDEOS, image_patch_size=4, **FRAMES, **SMALL),
    vit("simple_vit_3d", "SimpleViT", inputs=VIDEOS, image_patch_size=4, **FRAMES, **SMALL),
    vit("simple_flash_attn_vit_3d", "SimpleViT", inputs=VIDEOS, image_patch_size=4, **FRAMES,
        **SMALL),
    vit("vivit", "ViViT", inputs=VIDEOS, image_patch_size=4, **FRAMES, spatial_depth=2,
        temporal_depth=2, dim=96, heads=4, mlp_dim=192, dim_head=24),
    vit("vivit_with_moss", "ViViT", inputs=VIDEOS, image_patch_size=4, **FRAMES, spatial_depth=2,
        temporal_depth=2, dim=96, heads=4, mlp_dim=192, dim_head=24),
    vit("vit_nd", "ViTND", inputs=VIDEOS, ndim=3, input_shape=(4, 16, 16), patch_size=(2, 4, 4),
        num_classes=CLASSES, **SMALL),
    vit("vit_nd_rotary", "ViTND", inputs=VIDEOS, ndim=3, input_shape=(4, 16, 16),
        patch_size=(2, 4, 4), num_classes=CLASSES, **SMALL),
    vit("vit_nd_pope", "ViTND", inputs=VIDEOS, ndim=3, input_shape=(4, 16, 16),
        patch_size=(2, 4, 4), num_classes=CLASSES, **SMALL),
    vit("levit", "LeViT", inputs=normal(8, 3, 64, 64), image_size=64, num_classes=CLASSES,
        dim=(64, 96), depth=1, heads=(2, 4), mlp_mult=2, stages=2),
    vit("cct", "CCT", img_size=32, embedding_dim=96, n_conv_layers=2, num_layers=2, num_heads=4,
        mlp_ratio=2.0, num_classes=CLASSES, kernel_size=3, stride=1, padding=1),
    vit("cct_3d", "CCT", inputs=VIDEOS, img_size=16, num_frames=4, embedding_dim=96,
        n_conv_layers=1,
        num_layers=2, num_heads=4, mlp_ratio=2.0, num_classes=CLASSES, kernel_size=3, stride=1,
        padding=1),
    vit("cvt", "CvT", num_classes=CLASSES, s3_depth=2, s3_heads=4, **STAGES),
    vit("cross_vit", "CrossViT", image_size=48, inputs=normal(8, 3, 48, 48), num_classes=CLASSES,
        sm_dim=64, lg_dim=96, sm_enc_heads=4, sm_enc_mlp_dim=128, lg_enc_depth=1, lg_enc_heads=4,
        lg_enc_mlp_dim=192, cross_attn_heads=4, depth=1, sm_enc_dim_head=16, lg_enc_dim_head=24,
        cross_attn_dim_head=24, dropout=0.0, emb_dropout=0.0),
    vit("crossformer", "CrossFormer", inputs=normal(4, 3, 64, 64), dim=(48, 64, 96, 128),
        depth=(1, 1, 1, 1), global_window_size=(4, 2, 2, 1), local_window_size=2,
        num_classes=CLASSES),
    vit("max_vit", "MaxViT", inputs=normal(4, 3, 64, 64), num_classes=CLASSES, dim=64,
        depth=(1, 1), dim_head=16, dim_conv_stem=32, window_size=4, dropout=0.0),
    vit("max_vit_with_registers", "MaxViT", inputs=normal(4, 3, 64, 64), num_classes=CLASSES,
        dim=64,
        depth=(1, 1), dim_head=16, dim_conv_stem=32, window_size=4, dropout=0.0),
    vit("mobile_vit", "MobileViT", inputs=normal(4, 3, 64, 64), image_size=(64, 64),
        dims=[96, 120, 144], channels=[16, 32, 48, 48, 64, 64, 80, 80, 96, 96, 384],
        num_classes=CLASSES),
    vit("nest", "NesT", image_size=32, patch_size=4, num_classes=CLASSES, dim=48, heads=4,
        num_hierarchies=2, block_repeats=(1, 1), dim_head=16),
    vit("regionvit", "RegionViT", inputs=normal(2, 3, 112, 112), dim=(48, 64, 96, 128),
        depth=(1, 1, 1, 1), window_size=7, num_classes=CLASSES),
    vit("scalable_vit", "ScalableViT", inputs=normal(4, 3, 64, 64), num_classes=CLASSES, dim=48,
        heads=(2, 4, 4), depth=(1, 1, 1), reduction_factor=(4, 2, 1), window_size=(4, 4, None)),
    vit("sep_vit", "SepViT", inputs=normal(2, 3, 112, 112), num_classes=CLASSES, dim=48,
        dim_head=16, heads=(2, 4), depth=(1, 1)),
    vit("twins_svt", "TwinsSVT", inputs=normal(2, 3, 64, 64), num_classes=CLASSES, s1_emb_dim=48,
        s2_emb_dim=64, s3_emb_dim=96, s4_emb_dim=128, s1_local_patch_size=4, s2_local_patch_size=4,
        s3_local_patch_size=4, s4_local_patch_size=2, s1_global_k=4, s2_global_k=4, s3_global_k=4,
        s4_global_k=2, s3_depth=1, s4_depth=1),
    vit("t2t", "T2TViT", inputs=normal(2, 3, 64, 64), image_size=64, num_classes=CLASSES, dim=96,
        depth=2, heads=4, mlp_dim=192, dim_head=24),
    vit("look_vit", "LookViT", image_size=48, inputs=normal(4, 3, 48, 48), dim=96, depth=2, heads=4,
        num_classes=CLASSES, patch_size=16, highres_patch_size=12, dim_head=24,
        cross_attn_heads=4, cross_attn_dim_head=24, dropout=0.0),
    vit("looped_vit", "LoopedViT", image_size=32, patch_size=8, num_classes=CLASSES, dim=96,
        pre_loop_depth=1, num_looped_blocks=2, post_loop_depth=1, loop_depth=2, heads=4,
        dim_head=24, mlp_dim=192),
    vit("na_vit", "NaViT", inputs=lambda: ([torch.randn(3, 32, 32) for _ in range(8)],),
        **PATCHES),
    vit("levjepa_nd", "NDTransformer", inputs=VIDEOS, ndim=3, input_shape=(4, 16, 16),
        patch_size=(2, 4, 4), **SMALL),
    vit("vat_siglip", "SigLIP", inputs=normal(8, 3, 32, 32), image_size=32, patch_size=8, dim=96,
        depth=2, heads=4, mlp_dim=192),
    vit("dino", "Dino", inputs=normal(8, 3, 32, 32), net=PLAIN, image_size=32, hidden_layer=-2,
        projection_hidden_size=64, projection_layers=2, num_classes_K=128),
]  # fmt: skip
