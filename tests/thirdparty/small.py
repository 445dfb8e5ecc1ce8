"""Flows, tables, operators between functions, symmetries,
audio and state spaces: smaller packages."""

from __future__ import annotations

from typing import Any

import torch
from support.nets import Function
from thirdparty.table import found, ids, late, normal, of
from torch import nn
from zoo.entry import Entry

D = 8
SAMPLES = normal(64, D)


def log_density(flow: nn.Module) -> nn.Module:
    """Return zuko's flow as a model: a lazy distribution, of which a sample's density is wanted."""
    return Function(lambda s, x: s.flow().log_prob(x), flow=flow)


def given_context(flow: nn.Module) -> nn.Module:
    return Function(lambda s, x, c: s.flow(c).log_prob(x), flow=flow)


def density(flow: nn.Module) -> nn.Module:
    """Return nflows' flow as a model: it has no forward pass, only a density."""
    return Function(lambda s, x: s.flow.log_prob(x), flow=flow)


def zuko(name: str, **config: Any) -> Entry:
    hidden = {"hidden_features": (128, 128)}
    return of(f"zuko.flows:{name}", SAMPLES, features=D, wrap=log_density, **{**hidden, **config})


def net(inputs: int, outputs: int) -> nn.Module:
    """Return the network of a coupling, as nflows asks for it."""
    return found("nflows.nn.nets:ResidualNet")(inputs, outputs, hidden_features=96, num_blocks=2)


def nflow(name: str, *args: Any, **config: Any) -> Entry:
    """Return the flow of one of nflows' transforms, over standard normal noise."""
    return of(
        "nflows.flows:Flow",
        SAMPLES,
        late(f"nflows.transforms:{name}", *args, **config),
        late("nflows.distributions:StandardNormal", (D,)),
        name=name,
        wrap=density,
    )


def coupling(name: str, **config: Any) -> Entry:
    return nflow(name, [1, 0] * (D // 2), net, **config)


def autoregressive(name: str, **config: Any) -> Entry:
    return nflow(name, D, 96, num_blocks=2, **config)


BINS = {"num_bins": 8, "tails": "linear", "tail_bound": 3.0}
TABLE: dict[str, Any] = {"input_dim": 16, "output_dim": 100, "n_d": 32, "n_a": 32}
CATEGORIES: dict[str, Any] = {"cat_idxs": [0, 1], "cat_dims": [10, 20], "cat_emb_dim": [4, 4]}


def table_with_categories() -> tuple[torch.Tensor]:
    x = torch.randn(64, 16)
    x[:, 0], x[:, 1] = torch.randint(10, (64,)).float(), torch.randint(20, (64,)).float()
    return (x,)


def tabm(name: str, **config: Any) -> Entry:
    return of("tabm:TabM", normal(32, 12), name=name, n_num_features=12, d_out=10, k=8, n_blocks=2,
              d_block=96, dropout=0.0, **config)  # fmt: skip


def graph() -> tuple[dict[str, torch.Tensor]]:
    """Return a cloud of points, all of them neighbours."""
    n = 8
    a, b = torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij")
    away = (a != b).flatten()
    edges = torch.stack([a.flatten()[away], b.flatten()[away]])
    return (
        {
            "pos": torch.rand(n, 3) * 2.0,
            "x": torch.randn(n, 8),
            "batch": torch.zeros(n, dtype=torch.long),
            "edge_index": edges,
        },
    )


def clouds(**more: tuple[int, ...]) -> dict[str, torch.Tensor]:
    return {k: torch.randn(*shape) for k, shape in more.items()}


FIELD = normal(4, 3, 32, 32)
FNO: dict[str, Any] = {"n_modes": (8, 8), "in_channels": 3, "out_channels": 2,
"hidden_channels": 32,
                       "n_layers": 2}  # fmt: skip


def derivative(width: int = 64) -> nn.Module:
    layers = nn.Sequential(nn.Linear(D, width), nn.Tanh(), nn.Linear(width, D))
    return Function(lambda s, t, x: s.net(x), net=layers)


def solved(method: str, adjoint: bool) -> Entry:
    """Return a network that an ODE's solver integrates, and a head."""

    def build(**_: Any) -> nn.Module:
        solve = found(f"torchdiffeq:odeint{'_adjoint' if adjoint else ''}")
        times = torch.linspace(0.0, 1.0, 3)
        return Function(
            lambda s, x: s.head(solve(s.field, x, times, method=method)[-1]),
            field=derivative(),
            head=nn.Linear(D, 100),
        )

    name = f"{method}{', adjoint' if adjoint else ''}"
    return Entry(name, "torchdiffeq", lambda: (build(), SAMPLES()))


MAMBA: dict[str, Any] = {"d_model": 64, "n_layers": 2}
ENTRIES = [
    *(zuko(n) for n in "NICE MAF NSF SOSPF NCSF BPF".split()),
    zuko("NAF", signal=16),
    zuko("UNAF", signal=16),
    zuko("GF", transforms=2),
    zuko("CNF"),
    of("zuko.flows:GMM", SAMPLES, features=D, components=4, wrap=log_density),
    of("zuko.flows:NSF", lambda: (torch.randn(64, D), torch.randn(64, 5)), name="NSF, conditional",
       features=D, context=5, wrap=given_context, hidden_features=(128, 128)),
    of("zuko.nn:MLP", normal(64, D), D, 100, hidden_features=(128, 128), normalize=True),
    of("zuko.nn:MaskedMLP", normal(64, D), adjacency=torch.ones(16, D).tril().bool(),
       hidden_features=(128, 128), residual=True),
    of("zuko.nn:MonotonicMLP", normal(64, D), D, 16, hidden_features=(128, 128)),
    of("nflows.flows:MaskedAutoregressiveFlow", SAMPLES, features=D, hidden_features=96,
       num_layers=2,
       num_blocks_per_layer=2, wrap=density),
    of("nflows.flows:MaskedAutoregressiveFlow", SAMPLES,
       name="MaskedAutoregressiveFlow, batch norm",
       features=D, hidden_features=96, num_layers=2, num_blocks_per_layer=2,
       batch_norm_within_layers=True, batch_norm_between_layers=True, wrap=density),
    of("nflows.flows:SimpleRealNVP", SAMPLES, features=D, hidden_features=96, num_layers=2,
       num_blocks_per_layer=2, wrap=density),
    *(coupling(f"Piecewise{n}CouplingTransform", **BINS)
      for n in "Linear Quadratic RationalQuadratic".split()),
    coupling("PiecewiseCubicCouplingTransform", **BINS),
    coupling("AffineCouplingTransform"),
    coupling("AdditiveCouplingTransform"),
    autoregressive("MaskedAffineAutoregressiveTransform"),
    nflow("MaskedPiecewiseRationalQuadraticAutoregressiveTransform", features=D, hidden_features=96,
          num_blocks=2, **BINS),
    nflow("LULinear", D),
    nflow("QRLinear", D, num_householder=4),
    nflow("SVDLinear", D, num_householder=4),
    nflow("HouseholderSequence", D, 4),
    nflow("NaiveLinear", D),
    nflow("ActNorm", D),
    of("nflows.transforms:OneByOneConvolution", normal(4, D, 8, 8), D,
       wrap=lambda m: Function(lambda s, x: s.m(x)[0], m=m)),
    of("pytorch_tabnet.tab_network:TabNet", normal(64, 16), **TABLE,
       group_attention_matrix=torch.eye(16)),
    of("pytorch_tabnet.tab_network:TabNet", table_with_categories, name="TabNet, categories",
       **TABLE, group_attention_matrix=torch.eye(16), **CATEGORIES),
    of("pytorch_tabnet.tab_network:TabNet", normal(64, 16), name="TabNet, entmax",
       mask_type="entmax",
       **TABLE, group_attention_matrix=torch.eye(16)),
    of("pytorch_tabnet.tab_network:TabNetPretraining", normal(64, 16), input_dim=16, n_d=32, n_a=32,
       group_attention_matrix=torch.eye(16)),
    tabm("TabM", arch_type="tabm", start_scaling_init="random-signs"),
    tabm("TabM-mini", arch_type="tabm-mini", start_scaling_init="random-signs"),
    tabm("TabM-packed", arch_type="tabm-packed", start_scaling_init=None),
    of("tabm:TabM", lambda: {"x_num": torch.randn(32, 12), "x_cat": torch.randint(5, (32, 2))},
       name="TabM, periodic embeddings", n_num_features=12, cat_cardinalities=[5, 5], d_out=10, k=8,
       n_blocks=2, d_block=96, dropout=0.0, arch_type="tabm", start_scaling_init="normal",
       num_embeddings=late("rtdl_num_embeddings:PeriodicEmbeddings", 12, lite=False)),
    of("tabm:TabM", lambda: (torch.randn(32, 12),), name="TabM, linear embeddings",
       n_num_features=12,
       d_out=10, k=8, n_blocks=2, d_block=96, dropout=0.0, arch_type="tabm",
       start_scaling_init="random-signs",
       num_embeddings=late("rtdl_num_embeddings:LinearReLUEmbeddings", 12)),
    of("e3nn.nn.models.v2106.gate_points_networks:SimpleNetwork", graph, irreps_in="8x0e",
       irreps_out="10x0e", max_radius=4.0, num_neighbors=7.0, num_nodes=8.0, mul=16, layers=2,
       lmax=1),
    of("e3nn.nn:FullyConnectedNet", normal(64, 8), [8, 64, 64, 16], late("functools:partial",
       torch.tanh)),
    of("e3nn.o3:Linear", normal(64, 8 + 3 * 8), "8x0e + 8x1o", "16x0e + 16x1o"),
    of("e3nn.o3:FullyConnectedTensorProduct", lambda: (torch.randn(64, 32), torch.randn(64, 4)),
       "8x0e + 8x1o", "0e + 1o", "8x0e + 8x1o"),
    of("neuralop.models:FNO", FIELD, **FNO),
    of("neuralop.models:FNO", FIELD, name="FNO, Tucker", factorization="tucker", rank=0.2, **FNO),
    of("neuralop.models:FNO", FIELD, name="FNO, CP", factorization="cp", rank=0.2, **FNO),
    of("neuralop.models:FNO", FIELD, name="FNO, instance norm", norm="instance_norm", **FNO),
    of("neuralop.models:TFNO", FIELD, rank=0.2, **FNO),
    of("neuralop.models:FNO", normal(4, 3, 32), name="FNO, 1d", **{**FNO, "n_modes": (8,)}),
    of("neuralop.models:FNO", normal(2, 3, 16, 16, 8), name="FNO, 3d", **{**FNO, "n_modes": (4, 4,
       4)}),
    of("neuralop.models:CODANO", normal(2, 3, 16, 16), output_variable_codimension=1,
       lifting_channels=32,
       hidden_variable_codimension=16, projection_channels=32, n_layers=2, n_modes=[[8, 8], [8, 8]],
       n_heads=[2, 2], per_layer_scaling_factors=[[1, 1], [1, 1]],
       attention_scaling_factors=[1, 1]),
    solved("rk4", adjoint=False),
    solved("dopri5", adjoint=False),
    solved("rk4", adjoint=True),
    of("encodec.modules:SEANetEncoder",
       normal(2, 1, 3200), n_filters=8, dimension=32, ratios=[4, 2]),
    of("encodec.modules:SEANetDecoder", normal(2, 32, 40), n_filters=8, dimension=32, ratios=[4,
       2]),
    of("encodec.model:EncodecModel", normal(2, 1, 3200),
       late("encodec.modules:SEANetEncoder", n_filters=8, dimension=32, ratios=[4, 2],
       norm="weight_norm"),
       late("encodec.modules:SEANetDecoder", n_filters=8, dimension=32, ratios=[4, 2],
       norm="weight_norm"),
       late("encodec.quantization:ResidualVectorQuantizer", dimension=32, n_q=4, bins=64),
       [1.5], 24000, 1),
    of("encodec.msstftd:MultiScaleSTFTDiscriminator", normal(2, 1, 4096), filters=8),
    of("vocos.models:VocosBackbone", normal(4, 32, 40), input_channels=32, dim=96,
       intermediate_dim=192,
       num_layers=2),
    of("vocos.models:VocosBackbone", lambda: {"x": torch.randn(4, 32, 40),
       "bandwidth_id": torch.tensor([1])}, name="VocosBackbone, adaptive norm", input_channels=32,
       dim=96, intermediate_dim=192, num_layers=2, adanorm_num_embeddings=4),
    of("vocos.models:VocosResNetBackbone", normal(4, 32, 40), input_channels=32, dim=64,
       num_blocks=2),
    of("vocos.heads:ISTFTHead", normal(4, 40, 96), dim=96, n_fft=64, hop_length=16),
    of("vocos.discriminators:MultiPeriodDiscriminator", lambda: (torch.randn(2, 4096),
       torch.randn(2, 4096)), periods=(2, 3)),
    of("conformer:Conformer", normal(8, 24, 96), dim=96, depth=2, dim_head=24, heads=4),
    of("conformer:ConformerBlock", normal(8, 24, 96), dim=96, dim_head=24, heads=4,
       conv_causal=True),
    of("mambapy.mamba:Mamba", normal(4, 24, 64), late("mambapy.mamba:MambaConfig", **MAMBA)),
    of("mambapy.mamba:Mamba", normal(4, 24, 64), late("mambapy.mamba:MambaConfig", pscan=False,
       inner_layernorms=True, **MAMBA), name="Mamba, sequential, inner norms"),
    of("mambapy.vim:VMamba", normal(4, 24, 64), late("mambapy.vim:MambaConfig", **MAMBA)),
    of("mambapy.jamba:Jamba", normal(4, 24, 64), late("mambapy.jamba:JambaLMConfig", d_model=64,
       n_layers=4, mlp_size=128, num_attention_heads=4, num_key_value_heads=2, num_experts=4,
       num_experts_per_tok=2, vocab_size=500, attn_layer_offset=1, attn_layer_period=2,
       expert_layer_offset=1, expert_layer_period=2)),
    of("mambapy.jamba:JambaLM", ids(4, 24, of=500), late("mambapy.jamba:JambaLMConfig", d_model=64,
       n_layers=4, mlp_size=128, num_attention_heads=4, num_key_value_heads=2, num_experts=4,
       num_experts_per_tok=2, vocab_size=500, attn_layer_offset=1, attn_layer_period=2,
       expert_layer_offset=1, expert_layer_period=2)),
]  # fmt: skip
