"""Architectures of `transformers` that see: pictures, films, pictures with text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from zoo.configured import BATCH, IDS, LABELS, VOCABULARY, labels, model, tokens
from zoo.entry import Entry

SIZE = 32
PATCHES = {
    "image_size": SIZE,
    "patch_size": 8,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_labels": LABELS,
}
STAGES = {"num_labels": LABELS, "depths": [1, 1, 2, 1]}


def pixels() -> dict[str, Any]:
    return {"pixel_values": torch.randn(BATCH, 3, SIZE, SIZE), "labels": labels()}


def pixels64() -> dict[str, Any]:
    return {"pixel_values": torch.randn(BATCH, 3, 64, 64), "labels": labels()}


def pixels_only() -> dict[str, Any]:
    return {"pixel_values": torch.randn(BATCH, 3, SIZE, SIZE)}


def film() -> torch.Tensor:
    return torch.randn(BATCH, 4, 3, SIZE, SIZE)


def captioned() -> dict[str, Any]:
    return {"input_ids": tokens(BATCH, 12), "labels": tokens(BATCH, 12), **pixels_only()}


def pairs() -> dict[str, Any]:
    """Pictures with captions; the loss tells each pair from the others of the batch."""
    return {
        "input_ids": tokens(BATCH, 12),
        "pixel_values": torch.randn(BATCH, 3, SIZE, SIZE),
        "return_loss": True,
    }


def vision(
    name: str,
    class_name: str,
    config: dict[str, Any],
    inputs: Callable[[], dict[str, Any]] = pixels,
    classes: int | None = LABELS,
    **more: Any,
) -> Entry:
    return model(name, "vision", class_name, config, inputs, classes, **more)


VISION = [
    vision("vit", "ViTForImageClassification", PATCHES, fast=True),
    vision("deit", "DeiTForImageClassification", PATCHES),
    vision("beit", "BeitForImageClassification", PATCHES),
    vision("data2vec-vision", "Data2VecVisionForImageClassification", PATCHES),
    vision("dinov2", "Dinov2ForImageClassification", {**PATCHES, "use_mask_token": False}),
    vision(
        "vit-mae",
        "ViTMAEForPreTraining",
        {
            **PATCHES,
            "decoder_hidden_size": 64,
            "decoder_intermediate_size": 128,
            "decoder_num_hidden_layers": 2,
            "decoder_num_attention_heads": 4,
        },
        pixels_only,
        None,
    ),
    vision(
        "swin",
        "SwinForImageClassification",
        {
            **STAGES,
            "image_size": SIZE,
            "patch_size": 2,
            "embed_dim": 32,
            "depths": [2, 2],
            "num_heads": [2, 4],
            "window_size": 4,
        },
    ),
    vision(
        "swinv2",
        "Swinv2ForImageClassification",
        {
            **STAGES,
            "image_size": SIZE,
            "patch_size": 2,
            "embed_dim": 32,
            "depths": [2, 2],
            "num_heads": [2, 4],
            "window_size": 4,
        },
        draws=8,
    ),
    vision(
        "convnext",
        "ConvNextForImageClassification",
        {**STAGES, "hidden_sizes": [32, 48, 64, 96]},
        pixels64,
    ),
    vision(
        "convnextv2",
        "ConvNextV2ForImageClassification",
        {**STAGES, "hidden_sizes": [32, 48, 64, 96]},
        pixels64,
    ),
    vision(
        "resnet",
        "ResNetForImageClassification",
        {**STAGES, "embedding_size": 32, "hidden_sizes": [64, 64, 96, 128]},
        pixels64,
        fast=True,
    ),
    vision(
        "regnet",
        "RegNetForImageClassification",
        {**STAGES, "embedding_size": 32, "hidden_sizes": [128, 192, 256, 256], "groups_width": 32},
        pixels64,
        draws=4,
    ),
    vision(
        "bit",
        "BitForImageClassification",
        {**STAGES, "embedding_size": 32, "hidden_sizes": [64, 64, 96, 128], "num_groups": 8},
        pixels64,
    ),
    vision(
        "mobilenet-v1",
        "MobileNetV1ForImageClassification",
        {"num_labels": LABELS, "depth_multiplier": 0.5, "min_depth": 8},
        pixels64,
    ),
    vision(
        "mobilenet-v2",
        "MobileNetV2ForImageClassification",
        {"num_labels": LABELS, "depth_multiplier": 0.5},
        pixels64,
    ),
    vision(
        "efficientnet",
        "EfficientNetForImageClassification",
        {
            "num_labels": LABELS,
            "width_coefficient": 1.0,
            "depth_coefficient": 0.4,
            "squeeze_expansion_ratio": 1.0,
            "image_size": 64,
            "hidden_dim": 1280,
        },
        pixels64,
        draws=4,
    ),
    vision(
        "segformer",
        "SegformerForImageClassification",
        {**STAGES, "hidden_sizes": [32, 48, 64, 96], "num_attention_heads": [1, 2, 2, 4]},
        pixels64,
    ),
    vision(
        "pvt",
        "PvtForImageClassification",
        {
            "num_labels": LABELS,
            "image_size": 64,
            "hidden_sizes": [32, 48, 64, 96],
            "depths": [1, 1, 1, 1],
            "num_attention_heads": [1, 2, 2, 4],
        },
        pixels64,
    ),
    vision(
        "poolformer",
        "PoolFormerForImageClassification",
        {**STAGES, "hidden_sizes": [32, 48, 64, 96]},
        pixels64,
    ),
    vision(
        "cvt",
        "CvtForImageClassification",
        {
            "num_labels": LABELS,
            "embed_dim": [32, 48, 64],
            "num_heads": [1, 2, 4],
            "depth": [1, 2, 3],
        },
        pixels64,
    ),
    vision(
        "levit",
        "LevitForImageClassification",
        {
            "num_labels": LABELS,
            "image_size": 64,
            "hidden_sizes": [64, 96, 128],
            "num_attention_heads": [2, 3, 4],
            "depths": [1, 1, 1],
            "key_dim": [16, 16, 16],
        },
        pixels64,
    ),
    vision(
        "focalnet",
        "FocalNetForImageClassification",
        {**STAGES, "image_size": 64, "embed_dim": 32},
        pixels64,
        draws=4,
    ),
    vision(
        "pvt-v2",
        "PvtV2ForImageClassification",
        {
            "num_labels": LABELS,
            "image_size": 64,
            "hidden_sizes": [32, 48, 64, 96],
            "depths": [1, 1, 1, 1],
            "num_attention_heads": [1, 2, 2, 4],
        },
        pixels64,
    ),
    vision(
        "swiftformer",
        "SwiftFormerForImageClassification",
        {
            "num_labels": LABELS,
            "image_size": 64,
            "depths": [1, 1, 1, 1],
            "embed_dims": [32, 32, 48, 64],
        },
        pixels64,
        draws=8,
    ),
    vision("ijepa", "IJepaForImageClassification", PATCHES),
    vision(
        "mobilevit",
        "MobileViTForImageClassification",
        {
            "num_labels": LABELS,
            "image_size": 64,
            "hidden_sizes": [48, 64, 80],
            "neck_hidden_sizes": [16, 32, 48, 64, 80, 96, 128],
        },
        pixels64,
    ),
    vision(
        "hiera",
        "HieraForImageClassification",
        {
            "num_labels": LABELS,
            "image_size": [64, 64],
            "embed_dim": 32,
            "depths": [1, 1, 2, 1],
            "num_heads": [1, 2, 4, 8],
        },
        pixels64,
    ),
]
VIDEO = [
    vision(
        "videomae",
        "VideoMAEForVideoClassification",
        {**PATCHES, "num_frames": 4, "tubelet_size": 2},
        lambda: {"pixel_values": film(), "labels": labels()},
    ),
    vision(
        "timesformer",
        "TimesformerForVideoClassification",
        {**PATCHES, "num_frames": 4},
        lambda: {"pixel_values": film(), "labels": labels()},
    ),
    vision(
        "vjepa2",
        "VJEPA2Model",
        {
            "hidden_size": 64,
            "crop_size": SIZE,
            "patch_size": 8,
            "frames_per_clip": 4,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "pred_hidden_size": 48,
            "pred_num_hidden_layers": 2,
            "pred_num_attention_heads": 4,
        },
        lambda: {"pixel_values_videos": film()},
        None,
    ),
]
DENSE = [
    vision(
        "dpt",
        "DPTForDepthEstimation",
        {
            **PATCHES,
            "num_hidden_layers": 4,
            "backbone_out_indices": [0, 1, 2, 3],
            "neck_hidden_sizes": [16, 32, 48, 64],
            "fusion_hidden_size": 32,
            "is_hybrid": False,
        },
        pixels_only,
        None,
        unused=("neck.fusion_stage.layers.0.residual_layer1.*",),  # it has no residual
        draws=4,
    ),
    vision(
        "detr",
        "DetrForObjectDetection",
        {
            "use_timm_backbone": False,
            "use_pretrained_backbone": False,
            "backbone_config": {
                "model_type": "resnet",
                "embedding_size": 16,
                "hidden_sizes": [16, 24, 32, 48],
                "depths": [1, 1, 1, 1],
                "out_features": ["stage4"],
            },
            "d_model": 64,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "encoder_ffn_dim": 128,
            "decoder_ffn_dim": 128,
            "num_queries": 10,
            "num_labels": LABELS,
        },
        lambda: {"pixel_values": torch.randn(4, 3, 64, 64)},
        None,
        thawed=True,
        draws=16,
    ),
]
TOWERS = {
    "vocab_size": VOCABULARY,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 32,
    **IDS,
}
MULTIMODAL = [
    model(
        "vilt",
        "vision and text",
        "ViltModel",
        {**PATCHES, "vocab_size": VOCABULARY, "max_position_embeddings": 40},
        lambda: {"input_ids": tokens(), "pixel_values": torch.randn(BATCH, 3, SIZE, SIZE)},
    ),
    model(
        "blip",
        "vision and text",
        "BlipForConditionalGeneration",
        {"text_config": {**TOWERS, "encoder_hidden_size": 128}, "vision_config": PATCHES},
        captioned,
        VOCABULARY,
    ),
    model(
        "clip",
        "vision and text",
        "CLIPModel",
        {"text_config": TOWERS, "vision_config": PATCHES, "projection_dim": 64},
        pairs,
    ),
    model(
        "siglip",
        "vision and text",
        "SiglipModel",
        {"text_config": TOWERS, "vision_config": PATCHES},
        pairs,
    ),
]


ENTRIES = [*VISION, *VIDEO, *DENSE, *MULTIMODAL]
