"""The sixth collection: models of transformers and torch-geometric with the losses that these have.

Written before any of it was measured; half is held out.
"""

from __future__ import annotations

import random
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.diagnosis.cases import Specimen, images, tokens
from benchmarks.diagnosis.sixth_models import logits_of, ring, waves, well
from benchmarks.diagnosis.third_defects import By

SMALL: dict[str, Any] = {
    "vocab_size": 120,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}


def made(name: str, **config: Any) -> nn.Module:
    """Return a model of transformers by its class, its configuration's class beside it."""
    import transformers

    kind = getattr(transformers, name)
    return kind(kind.config_class(**config))


def said(out: Any) -> Tensor:
    """Return the loss that a model of transformers computes of the labels that it is given."""
    return out.loss


def labelled(vocabulary: int = 120, length: int = 20) -> dict[str, Tensor]:
    t = 1 + tokens(8, length, vocabulary - 2)
    return {"input_ids": t, "labels": t}


def classified(classes: int = 2) -> dict[str, Tensor]:
    return {"input_ids": 1 + tokens(8, 20, 118), "labels": torch.arange(8) % classes}


@well("speech")
def hf_conformer_by_ctc(chance: random.Random) -> Specimen:
    model = made(
        "Wav2Vec2ConformerForCTC", vocab_size=30, hidden_size=48, num_hidden_layers=3,
        num_attention_heads=4, intermediate_size=96, conv_dim=(32, 32, 32), conv_stride=(5, 2, 2),
        conv_kernel=(10, 3, 3), num_feat_extract_layers=3, num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=4, conv_depthwise_kernel_size=7, mask_time_length=2,
        apply_spec_augment=False, ctc_loss_reduction="mean",
    )  # fmt: skip
    x = {"input_values": waves(4, 1, 800)[:, 0], "labels": torch.randint(1, 30, (4, 6))}
    return Specimen(model, x, said)


@well("speech")
def hf_spectrogram_transformer(chance: random.Random) -> Specimen:
    model = made(
        "ASTForAudioClassification", hidden_size=48, num_hidden_layers=3, num_attention_heads=4,
        intermediate_size=96, patch_size=8, frequency_stride=8, time_stride=8, max_length=64,
        num_mel_bins=32, num_labels=5,
    )  # fmt: skip
    x = {"input_values": 0.5 * torch.randn(8, 64, 32), "labels": torch.arange(8) % 5}
    return Specimen(model, x, said)


@well("series")
def hf_patch_mixer(chance: random.Random) -> Specimen:
    model = made(
        "PatchTSMixerForPrediction", context_length=64, prediction_length=16, patch_length=8,
        patch_stride=8, num_input_channels=3, d_model=24, num_layers=3,
    )  # fmt: skip
    x = {
        "past_values": 10 + 3 * waves(8, 3, 64).transpose(1, 2),
        "future_values": 10 + 3 * waves(8, 3, 16).transpose(1, 2),
    }
    return Specimen(model, x, said)


@well("series")
def hf_series_transformer(chance: random.Random) -> Specimen:
    model = made(
        "TimeSeriesTransformerForPrediction", prediction_length=8, context_length=24,
        lags_sequence=[1, 2, 3], d_model=32, encoder_layers=2, decoder_layers=2,
        encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=64,
        decoder_ffn_dim=64, num_time_features=1,
    )  # fmt: skip
    past = 20 + 5 * waves(8, 1, 27)[:, 0]
    x = {
        "past_values": past,
        "past_time_features": torch.linspace(0, 1, 27).expand(8, -1)[..., None],
        "past_observed_mask": torch.ones_like(past),
        "future_values": 20 + 5 * waves(8, 1, 8)[:, 0],
        "future_time_features": torch.linspace(1, 1.3, 8).expand(8, -1)[..., None],
    }  # fmt: skip
    return Specimen(model, x, said)


@well("transformer")
def hf_fourier(chance: random.Random) -> Specimen:
    return Specimen(made("FNetForMaskedLM", **SMALL), labelled(), said)


@well("transformer")
def hf_nystrom(chance: random.Random) -> Specimen:
    config = {**SMALL, "segment_means_seq_len": 20, "num_landmarks": 4}
    return Specimen(made("NystromformerForMaskedLM", **config), labelled(), said)


@well("transformer")
def hf_convolved_bert(chance: random.Random) -> Specimen:
    return Specimen(made("ConvBertForMaskedLM", **SMALL, embedding_size=48), labelled(), said)


@well("transformer")
def hf_permuted(chance: random.Random) -> Specimen:
    model = made("XLNetLMHeadModel", vocab_size=120, d_model=48, n_layer=3, n_head=4, d_inner=96)
    return Specimen(model, labelled(), said)


@well("transformer")
def hf_funnel(chance: random.Random) -> Specimen:
    """The library draws its relative keys one-sided, which is seen; here they are centred."""
    model = made(
        "FunnelForMaskedLM", vocab_size=120, d_model=48, block_sizes=[2, 2], n_head=4, d_head=12,
        d_inner=96, num_decoder_layers=2,
    )  # fmt: skip
    for name, parameter in model.named_parameters():
        if name.endswith("r_kernel"):
            nn.init.normal_(parameter, 0.0, 0.1)
    return Specimen(model, labelled(), said)


@well("transformer")
def hf_falcon(chance: random.Random) -> Specimen:
    model = made(
        "FalconForCausalLM", vocab_size=120, hidden_size=48, num_hidden_layers=3,
        num_attention_heads=4,
    )  # fmt: skip
    return Specimen(model, labelled(), said)


@well("transformer")
def hf_soft_capped(chance: random.Random) -> Specimen:
    model = made(
        "Gemma2ForCausalLM", **SMALL, num_key_value_heads=2, head_dim=12,
        query_pre_attn_scalar=12,
    )  # fmt: skip
    return Specimen(model, labelled(), said)


@well("moe")
def hf_switch(chance: random.Random) -> Specimen:
    model = made(
        "SwitchTransformersForConditionalGeneration", vocab_size=120, d_model=48, d_kv=12, d_ff=96,
        num_layers=2, num_decoder_layers=2, num_sparse_encoder_layers=1,
        num_sparse_decoder_layers=1, num_heads=4, num_experts=4, decoder_start_token_id=0,
    )  # fmt: skip
    return Specimen(model, labelled(), said)


@well("states")
def hf_rwkv(chance: random.Random) -> Specimen:
    model = made(
        "RwkvForCausalLM", vocab_size=120, hidden_size=48, attention_hidden_size=48,
        num_hidden_layers=3, intermediate_size=96, context_length=64,
    )  # fmt: skip
    return Specimen(model, labelled(), said)


@well("states")
def hf_mamba_two(chance: random.Random) -> Specimen:
    model = made(
        "Mamba2ForCausalLM", vocab_size=120, hidden_size=32, num_hidden_layers=3, state_size=8,
        num_heads=4, head_dim=16, n_groups=1, chunk_size=8,
    )  # fmt: skip
    return Specimen(model, labelled(), said)


@well("perceiver")
def hf_perceiver(chance: random.Random) -> Specimen:
    model = made(
        "PerceiverForSequenceClassification", vocab_size=120, d_model=32, d_latents=48,
        num_latents=8, num_self_attends_per_block=3, num_self_attention_heads=4,
        num_cross_attention_heads=4, max_position_embeddings=64, num_labels=2,
    )  # fmt: skip
    batch = classified()
    return Specimen(model, {"inputs": batch["input_ids"], "labels": batch["labels"]}, said)


@well("rl")
def hf_decisions(chance: random.Random) -> Specimen:
    model = made(
        "DecisionTransformerModel", state_dim=7, act_dim=3, hidden_size=48, n_layer=3, n_head=4,
        max_ep_len=50, n_positions=64,
    )  # fmt: skip
    a = torch.rand(8, 12, 3) * 2 - 1
    x = {
        "states": torch.randn(8, 12, 7), "actions": a, "rewards": torch.rand(8, 12, 1),
        "returns_to_go": torch.rand(8, 12, 1).flip(1).cumsum(1),
        "timesteps": torch.arange(12).expand(8, -1), "attention_mask": torch.ones(8, 12),
    }  # fmt: skip
    return Specimen(model, x, lambda o: F.mse_loss(o.action_preds, a))


@well("detection")
def hf_deformable_detr(chance: random.Random) -> Specimen:
    import transformers

    body = transformers.ResNetConfig(
        embedding_size=16, hidden_sizes=[16, 24, 32, 48], depths=[1, 1, 1, 1],
        layer_type="basic", out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip
    model = made(
        "DeformableDetrForObjectDetection", backbone_config=body, use_timm_backbone=False,
        use_pretrained_backbone=False, d_model=32, encoder_layers=2, decoder_layers=2,
        encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=64,
        decoder_ffn_dim=64, num_queries=10, num_labels=4,
    )  # fmt: skip
    labels = [
        {"class_labels": torch.tensor([1, 2]), "boxes": torch.rand(2, 4) * 0.4 + 0.3}
        for _ in range(4)
    ]
    return Specimen(model, {"pixel_values": images(4, 128), "labels": labels}, said)


@well("segmentation")
def hf_depths(chance: random.Random) -> Specimen:
    model = made(
        "DPTForDepthEstimation", hidden_size=48, num_hidden_layers=4, num_attention_heads=4,
        intermediate_size=96, image_size=32, patch_size=8, backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[16, 16, 32, 32], fusion_hidden_size=32,
        reassemble_factors=[4, 2, 1, 0.5], initializer_range=0.08,
        is_hybrid=False,
    )  # fmt: skip
    y = torch.rand(4, 64, 64) * 5
    return Specimen(model, images(4, 32), lambda o: F.l1_loss(o.predicted_depth, y))


@well("vit")
def hf_levit(chance: random.Random) -> Specimen:
    model = made(
        "LevitForImageClassification", image_size=64, hidden_sizes=[32, 48, 64],
        num_attention_heads=[2, 3, 4], depths=[1, 1, 1], key_dim=[8, 8, 8], num_labels=5,
    )  # fmt: skip
    x = {"pixel_values": images(8, 64), "labels": torch.arange(8) % 5}
    return Specimen(model, x, said)


@well("vit")
def hf_mobile_vit(chance: random.Random) -> Specimen:
    model = made(
        "MobileViTForImageClassification", image_size=128, hidden_sizes=[32, 40, 48],
        neck_hidden_sizes=[8, 16, 24, 32, 40, 48, 64], num_labels=5,
    )  # fmt: skip
    x = {"pixel_values": images(8, 128), "labels": torch.arange(8) % 5}
    return Specimen(model, x, said)


@well("vit")
def hf_beit(chance: random.Random) -> Specimen:
    model = made(
        "BeitForImageClassification", hidden_size=48, num_hidden_layers=3, num_attention_heads=4,
        intermediate_size=96, image_size=32, patch_size=8, num_labels=5,
        use_relative_position_bias=True, use_mask_token=False,
    )  # fmt: skip
    x = {"pixel_values": images(8, 32), "labels": torch.arange(8) % 5}
    return Specimen(model, x, said)


@well("contrastive")
def hf_clip(chance: random.Random) -> Specimen:
    model = made(
        "CLIPModel",
        text_config={**SMALL, "max_position_embeddings": 20, "eos_token_id": 119},
        vision_config={
            "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 3,
            "num_attention_heads": 4, "image_size": 32, "patch_size": 8,
        },
        projection_dim=32,
    )  # fmt: skip
    x = {"input_ids": 1 + tokens(8, 20, 118), "pixel_values": images(8, 32), "return_loss": True}
    return Specimen(model, x, said)


@well("graph")
def pyg_principal(chance: random.Random) -> Specimen:
    from torch_geometric.nn import PNAConv

    edges = ring()
    degree = torch.bincount(torch.bincount(edges[1], minlength=60))

    def layer(a: int) -> nn.Module:
        return PNAConv(
            a, 32, ["mean", "min", "max", "std"], ["identity", "amplification", "attenuation"],
            degree, towers=4, divide_input=False,
        )  # fmt: skip

    def forward(m: Any, x: Tensor) -> Tensor:
        for conv, norm in zip(m.layers, m.norms, strict=True):
            x = F.relu(norm(conv(x, edges)))
        return m.head(x)

    model = By(
        forward, layers=nn.ModuleList([layer(16), layer(32)]),
        norms=nn.ModuleList(nn.BatchNorm1d(32) for _ in range(2)), head=nn.Linear(32, 4),
    )  # fmt: skip
    return Specimen(model, torch.randn(60, 16), logits_of(torch.arange(60) % 4))


@well("graph")
def pyg_deep_with_the_input(chance: random.Random) -> Specimen:
    """GCNII (Chen et al. 2020): 16 layers, each with a share of the first."""
    from torch_geometric.nn import GCN2Conv

    edges = ring()

    def forward(m: Any, x: Tensor) -> Tensor:
        x = first = F.relu(m.into(x))
        for conv in m.layers:
            x = F.relu(conv(F.dropout(x, 0.5), first, edges))
        return m.head(x)

    model = By(
        forward, into=nn.Linear(16, 48),
        layers=nn.ModuleList(GCN2Conv(48, 0.1, 0.5, i + 1) for i in range(16)),
        head=nn.Linear(48, 4),
    )  # fmt: skip
    return Specimen(model, torch.randn(60, 16), logits_of(torch.arange(60) % 4))


@well("graph")
def pyg_general_powerful_scalable(chance: random.Random) -> Specimen:
    """GPS (Rampášek et al. 2022): GINE beside attention, batch norms."""
    from torch_geometric.nn import GINEConv, GPSConv, global_add_pool

    edges, batch = ring(), torch.arange(60) // 15
    of_edge = torch.randint(4, (edges.shape[1],))

    def forward(m: Any, z: Tensor) -> Tensor:
        x, e = m.table(z), m.kinds(of_edge)
        for layer in m.layers:
            x = layer(x, edges, batch, edge_attr=e)
        return m.head(global_add_pool(x, batch))

    def layer() -> nn.Module:
        net = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32))
        return GPSConv(32, GINEConv(net), heads=4)

    model = By(
        forward, table=nn.Embedding(10, 32), kinds=nn.Embedding(4, 32),
        layers=nn.ModuleList(layer() for _ in range(3)),
        head=nn.Sequential(nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 1)),
    )  # fmt: skip
    y = torch.randn(4, 1)
    return Specimen(model, torch.randint(10, (60,)), lambda z: F.l1_loss(z, y))


@well("graph")
def pyg_attentive_fingerprints(chance: random.Random) -> Specimen:
    from torch_geometric.nn import AttentiveFP

    edges, batch = ring(), torch.arange(60) // 15
    e = torch.randn(edges.shape[1], 6)
    model = By(
        lambda m, x: m.net(x, edges, e, batch), net=AttentiveFP(12, 32, 1, 6, 3, 2)
    )  # fmt: skip
    y = torch.randn(4, 1)
    return Specimen(model, torch.randn(60, 12), lambda z: F.mse_loss(z, y))
