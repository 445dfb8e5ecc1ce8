"""Operations: what each of PyTorch's ATen operations means for a signal, by name.

Names are those of the dispatcher, without overload and without the in-place underscore.
"""

from __future__ import annotations

# Position of the contracted operands, and the role of each axis of a parameter in that place.
CONTRACTIONS: dict[str, tuple[tuple[int, str], ...]] = {
    "mm": ((0, "OI"), (1, "IO")),
    "addmm": ((1, "OI"), (2, "IO")),
    "bmm": ((0, "BOI"), (1, "BIO")),
    "baddbmm": ((1, "BOI"), (2, "BIO")),
    "mv": ((0, "OI"), (1, "I")),
    "addmv": ((1, "OI"), (2, "I")),
    "dot": ((0, "I"), (1, "I")),
    "linear": ((0, "OI"), (1, "OI")),
    "_grouped_mm": ((0, "OI"), (1, "BIO")),
    "_trilinear": ((0, "OI"), (1, "OII"), (2, "OI")),
}
CONVOLUTIONS = frozenset({"convolution", "_convolution", "convolution_overrideable"})
EMBEDDINGS = frozenset({"embedding", "_embedding_bag", "_embedding_bag_forward_only"})
NORMS = {
    "native_layer_norm": "layer norm",
    "native_batch_norm": "batch norm",
    "_native_batch_norm_legit": "batch norm",
    "_native_batch_norm_legit_no_training": "batch norm",
    "_batch_norm_with_update": "batch norm",
    "cudnn_batch_norm": "batch norm",
    "miopen_batch_norm": "batch norm",
    "native_group_norm": "group norm",
    "_fused_rms_norm": "rms norm",
    "rms_norm": "rms norm",
}
SOFTMAX = frozenset({"_softmax", "_log_softmax", "_safe_softmax"})
REDUCTIONS = frozenset({"mean", "var", "std", "var_mean", "std_mean", "sum", "linalg_vector_norm"})
VIEWS = frozenset(
    "view _unsafe_view reshape t transpose permute expand squeeze unsqueeze slice select split "
    "unsafe_split split_with_sizes unsafe_split_with_sizes chunk unsafe_chunk unbind clone "
    "contiguous _to_copy detach alias as_strided lift_fresh movedim flatten unflatten roll flip "
    "_reshape_alias unfold".split()
)
INTERPOLATIONS = frozenset(
    "upsample_linear1d upsample_bilinear2d _upsample_bilinear2d_aa upsample_bicubic2d "
    "_upsample_bicubic2d_aa upsample_trilinear3d".split()
)
"""Operations whose entries are weighted means of their neighbours."""
PASSES = (
    VIEWS
    | INTERPOLATIONS
    | frozenset(
        "native_dropout cat stack constant_pad_nd reflection_pad1d reflection_pad2d "
        "replication_pad1d replication_pad2d index index_select gather max_pool1d "
        "max_pool2d_with_indices max_pool3d_with_indices avg_pool1d avg_pool2d avg_pool3d "
        "adaptive_avg_pool1d _adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool2d "
        "adaptive_max_pool3d upsample_nearest1d upsample_nearest2d upsample_nearest3d "
        "pixel_shuffle pixel_unshuffle repeat repeat_interleave masked_fill where tril triu "
        "im2col col2im copy slice_scatter select_scatter index_put scatter "
        "native_channel_shuffle channel_shuffle amax max topk sort cumsum".split()
    )
)
FACTORIES = frozenset(
    "empty_like zeros_like ones_like full_like rand_like randn_like bernoulli new_empty new_zeros "
    "new_ones new_full".split()
)
"""Operations whose result takes its shape from data and nothing else."""
FILLED = {
    **dict.fromkeys(("zeros_like", "new_zeros", "zeros"), 0.0),
    **dict.fromkeys(("ones_like", "new_ones", "ones"), 1.0),
}
"""Operations whose result has this value everywhere."""
COMPARISONS = frozenset({"ge", "gt", "le", "lt"})
LONGEST = 256
"""Most calls in an expression; beyond it, say in a loop without weights, it is an operation."""
SAME_PLACE = frozenset({"_to_copy", "alias", "clone", "contiguous", "lift_fresh"})
"""Operations that leave every entry where it is."""
SPLITS = frozenset({"split", "unsafe_split", "chunk", "unsafe_chunk", "split_with_sizes"})
LOOKUPS = frozenset({"index", "index_select", "gather"})
"""Operations that pick entries of a table."""
JOINS = INTERPOLATIONS | frozenset(
    "cat stack repeat repeat_interleave index index_select gather upsample_nearest1d "
    "upsample_nearest2d upsample_nearest3d constant_pad_nd reflection_pad1d reflection_pad2d "
    "replication_pad1d replication_pad2d".split()
)
"""Operations that lay entries side by side, each as it was, or between its neighbours."""
MIXES = INTERPOLATIONS | {"constant_pad_nd"}
"""Those of them that change what an entry is like."""
SUMS = frozenset({"add", "sub", "rsub"})
PRODUCTS = frozenset({"mul", "div"})
SCATTERS = frozenset({"index_add", "scatter_add", "scatter_reduce"})
HANDED_ON = PASSES | REDUCTIONS | SCATTERS
"""Operations whose result is the signal that they are given: moved, pooled, in part."""
