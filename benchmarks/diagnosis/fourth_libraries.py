"""The fourth collection: models of transformers and torch-geometric, as these libraries start them.

Written before any of it was measured; half is held out.
"""

from __future__ import annotations

import random
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.diagnosis.cases import Specimen, case, images, tokens
from benchmarks.diagnosis.fourth_models import graph
from benchmarks.diagnosis.third_defects import By

well = partial(case, collection="fourth")
SMALL: dict[str, Any] = {
    "vocab_size": 120,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}


def causal(name: str, **config: Any) -> nn.Module:
    """Return a causal language model of transformers, by the name of its configuration."""
    import transformers

    made = transformers.AutoConfig.for_model(name, **config)
    return transformers.AutoModelForCausalLM.from_config(made)


def bare(name: str, **config: Any) -> nn.Module:
    """Return a model of transformers without a head."""
    import transformers

    return transformers.AutoModel.from_config(transformers.AutoConfig.for_model(name, **config))


def text(length: int = 20) -> dict[str, Tensor]:
    return {"input_ids": 1 + tokens(8, length, 118)}


@well("transformer")
def hf_gpt2(chance: random.Random) -> Specimen:
    model = causal("gpt2", vocab_size=120, n_embd=48, n_layer=4, n_head=4, n_positions=64)
    return Specimen(model.eval(), text())


@well("transformer")
def hf_opt(chance: random.Random) -> Specimen:
    model = causal("opt", **SMALL, ffn_dim=96, word_embed_proj_dim=48)
    return Specimen(model.eval(), text())


@well("transformer")
def hf_bloom(chance: random.Random) -> Specimen:
    return Specimen(causal("bloom", vocab_size=120, hidden_size=48, n_layer=3, n_head=4), text())


@well("transformer")
def hf_neox(chance: random.Random) -> Specimen:
    return Specimen(causal("gpt_neox", **SMALL), text())


@well("transformer")
def hf_gemma(chance: random.Random) -> Specimen:
    return Specimen(causal("gemma", **SMALL, num_key_value_heads=2, head_dim=12), text())


@well("transformer")
def hf_qwen3(chance: random.Random) -> Specimen:
    return Specimen(causal("qwen3", **SMALL, num_key_value_heads=2, head_dim=12), text())


@well("moe")
def hf_mixtral(chance: random.Random) -> Specimen:
    return Specimen(causal("mixtral", **SMALL, num_key_value_heads=2, num_local_experts=4), text())


@well("recurrent")
def hf_mamba(chance: random.Random) -> Specimen:
    model = causal("mamba", vocab_size=120, hidden_size=48, num_hidden_layers=3, state_size=8)
    return Specimen(model, text())


@well("transformer")
def hf_albert(chance: random.Random) -> Specimen:
    return Specimen(bare("albert", **SMALL, embedding_size=24).eval(), text())


@well("transformer")
def hf_deberta(chance: random.Random) -> Specimen:
    model = bare(
        "deberta-v2", **SMALL, relative_attention=True, pos_att_type=["c2p", "p2c"],
        position_buckets=16,
    )  # fmt: skip
    return Specimen(model.eval(), text())


@well("transformer")
def hf_bart(chance: random.Random) -> Specimen:
    model = bare(
        "bart", vocab_size=120, d_model=48, encoder_layers=2, decoder_layers=2,
        encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=96,
        decoder_ffn_dim=96, max_position_embeddings=64,
    )  # fmt: skip
    return Specimen(model.eval(), text())


@well("vit")
def hf_dinov2(chance: random.Random) -> Specimen:
    model = bare("dinov2", hidden_size=48, num_hidden_layers=3, num_attention_heads=4,
                 image_size=16, patch_size=4)  # fmt: skip
    return Specimen(model.eval(), images(8, 16))


@well("vit")
def hf_swin(chance: random.Random) -> Specimen:
    model = bare("swin", image_size=32, patch_size=2, embed_dim=24, depths=[2, 2],
                 num_heads=[2, 4], window_size=4)  # fmt: skip
    return Specimen(model.eval(), images(8, 32))


@well("cnn")
def hf_convnext2(chance: random.Random) -> Specimen:
    """Woo et al. (2023): responses normalized, their scale and bias from zero."""
    model = bare("convnextv2", hidden_sizes=[16, 32], depths=[2, 2], num_stages=2, patch_size=2)
    return Specimen(model.eval(), images(8, 16))


@well("cnn")
def hf_regnet(chance: random.Random) -> Specimen:
    model = bare("regnet", embedding_size=16, hidden_sizes=[16, 32], depths=[2, 2], groups_width=8)
    return Specimen(model, images(8, 32))


@well("vit")
def hf_segformer(chance: random.Random) -> Specimen:
    model = bare(
        "segformer", num_encoder_blocks=2, depths=[2, 2], hidden_sizes=[16, 32], sr_ratios=[2, 1],
        num_attention_heads=[1, 2], patch_sizes=[7, 3], strides=[4, 2], mlp_ratios=[4, 4],
    )  # fmt: skip
    return Specimen(model.eval(), images(8, 32))


@well("speech")
def hf_whisper(chance: random.Random) -> Specimen:
    model = bare(
        "whisper", vocab_size=120, d_model=48, encoder_layers=2, decoder_layers=2,
        encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=96,
        decoder_ffn_dim=96, num_mel_bins=16, max_source_positions=30, max_target_positions=32,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    batch = {"input_features": torch.randn(4, 16, 60), "decoder_input_ids": tokens(4, 12, 120)}
    return Specimen(model.eval(), batch)


@well("series")
def hf_patches_of_series(chance: random.Random) -> Specimen:
    model = bare("patchtst", num_input_channels=3, context_length=64, patch_length=8,
                 patch_stride=8, d_model=32, num_hidden_layers=2, num_attention_heads=4,
                 ffn_dim=64)  # fmt: skip
    return Specimen(model.eval(), {"past_values": torch.randn(8, 64, 3)})


# — graphs —


@well("graph")
def pyg_gcn(chance: random.Random) -> Specimen:
    from torch_geometric.nn import GCN

    return Specimen(GCN(16, 32, 2, 4), graph(150, 5, 16))


@well("graph")
def pyg_attention(chance: random.Random) -> Specimen:
    """Brody et al. (2022)."""
    from torch_geometric.nn import GAT

    return Specimen(GAT(16, 32, 3, 4, v2=True, heads=4), graph(150, 5, 16))


@well("graph")
def pyg_sage(chance: random.Random) -> Specimen:
    from torch_geometric.nn import GraphSAGE

    return Specimen(GraphSAGE(16, 32, 3, 4), graph(150, 8, 16))


@well("graph")
def pyg_isomorphism_with_norms(chance: random.Random) -> Specimen:
    """Xu et al. (2019): sums, each after a multi-layer perceptron with batch norm; pooled."""
    from torch_geometric.nn import GIN, global_add_pool

    x, edges = graph(160, 4, 16)
    graphs = torch.arange(160) // 10
    edges = torch.stack([edges[0] % 10 + edges[1] // 10 * 10, edges[1]])

    def forward(m: Any, x: Tensor, edges: Tensor) -> Tensor:
        return m.head(global_add_pool(m.body(x, edges), graphs))

    body = GIN(16, 32, 3, norm="batch_norm")
    return Specimen(By(forward, body=body, head=nn.Linear(32, 2)), (x, edges))


@well("graph")
def pyg_molecules(chance: random.Random) -> Specimen:
    """Schütt et al. (2017): filters of distances, energies summed over atoms."""
    from torch_geometric.nn import SchNet

    def near(places: Tensor, molecules: Tensor) -> tuple[Tensor, Tensor]:
        apart = torch.cdist(places, places)
        same = (molecules[:, None] == molecules) & (apart < 5.0) & (apart > 0)
        edges = same.nonzero().T
        return edges, (places[edges[0]] - places[edges[1]]).norm(dim=-1)

    model = SchNet(32, 32, 2, 16, cutoff=5.0, interaction_graph=near)
    molecules = torch.arange(8).repeat_interleave(6)
    batch = (torch.randint(1, 9, (48,)), 1.5 * torch.randn(48, 3), molecules)
    y = torch.randn(8, 1)
    return Specimen(model, batch, lambda z: F.mse_loss(z, y))


@well("graph")
def pyg_transformer(chance: random.Random) -> Specimen:
    """Rampášek et al. (2022): messages and attention side by side."""
    from torch_geometric.nn import GINConv, GPSConv

    def layer() -> nn.Module:
        mlp = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32))
        return GPSConv(32, GINConv(mlp), heads=4)

    def forward(m: Any, x: Tensor, edges: Tensor) -> Tensor:
        x = m.first(x)
        for each in m.layers:
            x = each(x, edges)
        return m.head(x)

    layers = nn.ModuleList(layer() for _ in range(2))
    model = By(forward, first=nn.Linear(16, 32), layers=layers, head=nn.Linear(32, 4))
    return Specimen(model, graph(60, 4, 16))


@well("graph")
def pyg_relations(chance: random.Random) -> Specimen:
    """Schlichtkrull et al. (2018): a kernel a relation, made of bases."""
    from torch_geometric.nn import RGCNConv

    x, edges = graph(120, 6, 16)
    kinds = torch.randint(5, (edges.shape[1],))

    def forward(m: Any, x: Tensor, edges: Tensor) -> Tensor:
        return m.second(F.relu(m.first(x, edges, kinds)), edges, kinds)

    model = By(
        forward, first=RGCNConv(16, 32, 5, num_bases=3), second=RGCNConv(32, 4, 5, num_bases=3)
    )
    return Specimen(model, (x, edges))
