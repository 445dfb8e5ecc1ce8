"""Policies, each with its paper and its formula."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fanwise.network.branches import ResidualStructure
from fanwise.network.uses import KERNEL_ROLES, NeighbourKind, Role
from fanwise.policies.base import (
    Change,
    Changes,
    Uses,
    add_changes,
    check_branches,
    hidden_kernels,
    scale_kernels,
    scale_value_path,
    scales_itself,
    stacks_of,
    stream_width,
    zero_last,
)
from fanwise.schemes.distributions import (
    Constant,
    Dirac,
    Hadamard,
    Identity,
    Normal,
    TruncatedNormal,
)
from fanwise.schemes.fans import sizes


@dataclass(frozen=True)
class GPT2:
    """The last kernels of N residual branches divided by √N: their sum is as large as one branch.

    Radford et al. (2019), "Language models are unsupervised multitask learners", section 2.3: N is
    the number of residual layers, two in a transformer's block.
    """

    def changes(self, structure: ResidualStructure, uses: Uses) -> tuple[Changes, str]:
        """See `Policy`."""
        check_branches("gpt2", structure)
        changes: Changes = {}
        for branch in structure.branches:
            n = structure.depth(branch.stream)
            if n <= 1 or branch.closed or scales_itself(branch, n):
                continue
            factor = 1.0 / math.sqrt(n)
            reason = f"1/√{n}: the last of a branch, one of {n} that the stream sums (GPT-2)"
            add_changes(changes, scale_kernels(structure, branch.last, factor, reason))
        depths = sorted({structure.depth(branch.stream) for branch in structure.branches})
        roots = " and ".join(f"√{n}" for n in depths)
        n = len(structure.branches)
        return changes, f"gpt2: the last kernels of {n} residual branches are divided by {roots}."


@dataclass(frozen=True)
class SmallInit:
    """Dense kernels normal with std √(2/(5d)), d the model's width.

    Nguyen and Salazar (2019), "Transformers without tears", section 2.2: Xavier for a 4d-wide
    feed-forward layer, used throughout.
    """

    def changes(self, structure: ResidualStructure, uses: Uses) -> tuple[Changes, str]:
        """See `Policy`."""
        check_branches("small_init", structure)
        d = stream_width(structure, uses)
        change = Change(f"√(2/(5·{d:g})) (SmallInit)", scheme=Normal(math.sqrt(2.0 / (5.0 * d))))
        changes = dict.fromkeys(hidden_kernels(structure, uses), change)
        return changes, "small_init: dense kernels within branches have std √(2/(5d))."


@dataclass(frozen=True)
class NeoX:
    """SmallInit, and 2/(L√d) for the last kernels of the branches of L blocks.

    Black et al. (2022), "GPT-NeoX-20B", section 2.2, after Wang and Komatsuzaki (2021). A block has
    two branches: L is half their number.
    """

    def changes(self, structure: ResidualStructure, uses: Uses) -> tuple[Changes, str]:
        """See `Policy`."""
        changes, _ = SmallInit().changes(structure, uses)
        changes |= Wang2().changes(structure, uses)[0]
        return changes, "neox: std √(2/(5d)) within branches, 2/(L√d) for their last kernels."


@dataclass(frozen=True)
class Wang2:
    """2/(L√d) for the last kernels of the branches of L blocks, every other kernel by its own use.

    The half of `NeoX` that GPT-NeoX's code calls `wang_init`, after Wang and Komatsuzaki (2021),
    Mesh Transformer JAX. A block has two branches: L is half their number.
    """

    def changes(self, structure: ResidualStructure, uses: Uses) -> tuple[Changes, str]:
        """See `Policy`."""
        check_branches("wang2", structure)
        blocks = max(len(structure.branches) / 2.0, 1.0)
        d = stream_width(structure, uses)
        std = 2.0 / (blocks * math.sqrt(d))
        change = Change(f"2/({blocks:g}·√{d:g}) (GPT-NeoX)", scheme=Normal(std))
        last = [structure.parameters[c] for branch in structure.branches for c, _ in branch.last]
        return dict.fromkeys(last, change), "wang2: std 2/(L√d) for the last kernels of branches."


@dataclass(frozen=True)
class Mitchell:
    """Std 1/√fan_in, and 1/√(2·fan_in·(l+1)) for the last kernels of block l, the first being 0.

    OLMo's init of that name, by Mitchell Wortsman: Groeneveld et al. (2024), "OLMo: accelerating
    the science of language models", as their code has it. Kernels and embeddings (there with the
    model's width for fan_in) are normal, truncated at three times that std, which is the one
    *before* truncation. A block has two branches.
    """

    def changes(self, structure: ResidualStructure, uses: Uses) -> tuple[Changes, str]:
        """See `Policy`."""
        check_branches("mitchell", structure)
        blocks = {
            structure.parameters[contraction]: (branch.index - 1) // 2
            for branch in structure.branches
            for contraction, _ in branch.last
        }
        changes: Changes = {}
        for name, use in uses.items():
            if use.fans is None and use.role != Role.EMBEDDING:
                continue
            fan_in = use.view[-1] if use.fans is None else use.fans.fan_in
            reason, std = "1/√fan_in", fan_in**-0.5
            if name in blocks:
                reason, std = (
                    f"1/√(2·fan_in·{blocks[name] + 1})",
                    std / math.sqrt(2.0 * blocks[name] + 2.0),
                )
            scheme = TruncatedNormal(std, low=-3.0, high=3.0)
            changes[name] = Change(f"{reason}, cut at 3σ (OLMo's mitchell)", scheme=scheme)
        return changes, (
            "mitchell: std 1/√fan_in, and 1/√(2·fan_in·(l+1)) for the last kernels of block l."
        )


@dataclass(frozen=True)
class DeepNorm:
    """Xavier with gain β for values, outputs and feed-forward kernels of N blocks.

    Wang et al. (2022), "DeepNet", figure 2: β = (8N)^−¼; for an encoder of N and a decoder of M
    blocks 0.87·(N⁴M)^−1⁄16 and (12M)^−¼. A stream is multiplied before each sum by α = (2N)^¼, or
    by 0.81·(N⁴M)^1⁄16 and (3M)^¼: the model's code must do that.
    """

    def changes(self, structure: ResidualStructure, uses: Uses) -> tuple[Changes, str]:
        """See `Policy`."""
        stacks = stacks_of("deepnorm", structure)
        n, m = stacks.encoder_blocks, stacks.decoder_blocks
        if stacks.decoder is None:
            alpha, beta = (2.0 * n) ** 0.25, (8.0 * n) ** -0.25
            reason = f"gain (8·{n})^−¼ = {beta:.3g} (DeepNorm)"
            return scale_value_path(structure, beta, reason), (
                f"deepnorm: gain {beta:.3g} for values, outputs and feed-forward kernels; the "
                f"stream must be multiplied by {alpha:.3g} before each sum."
            )
        both = (n**4 * m) ** (1.0 / 16.0)
        beta, beta_m = 0.87 / both, (12.0 * m) ** -0.25
        reason = f"gain 0.87·({n}⁴·{m})^−1⁄16 = {beta:.3g}, an encoder's (DeepNorm)"
        changes = scale_value_path(stacks.encoder, beta, reason)
        reason = f"gain (12·{m})^−¼ = {beta_m:.3g}, a decoder's (DeepNorm)"
        changes |= scale_value_path(stacks.decoder, beta_m, reason)
        return changes, (
            f"deepnorm: gain {beta:.3g} for values, outputs and feed-forward kernels of the "
            f"encoder, {beta_m:.3g} of the decoder; their streams must be multiplied by "
            f"{0.81 * both:.3g} and {(3.0 * m) ** 0.25:.3g} before each sum."
        )


@dataclass(frozen=True)
class SubLN:
    """Xavier with gain γ for values, outputs and feed-forward kernels of N blocks.

    Wang et al. (2022), "Foundation transformers" (Magneto), figure 2: γ = √(log 2N); for an encoder
    of N and a decoder of M blocks √(log 3M · log 2N / 3) and √(log 3M). Of a model with a
    normalization before each output projection too.
    """

    def changes(self, structure: ResidualStructure, uses: Uses) -> tuple[Changes, str]:
        """See `Policy`."""
        stacks = stacks_of("sub_ln", structure)
        n, m = stacks.encoder_blocks, stacks.decoder_blocks
        encoder = math.log(2.0 * n)
        if stacks.decoder is None:
            gamma = math.sqrt(encoder)
            reason = f"gain √log(2·{n}) = {gamma:.3g} (SubLN)"
            changes = scale_value_path(structure, gamma, reason)
            return (
                changes,
                f"sub_ln: gain {gamma:.3g} for values, outputs and feed-forward kernels.",
            )
        decoder = math.log(3.0 * m)
        gamma, gamma_m = math.sqrt(decoder * encoder / 3.0), math.sqrt(decoder)
        reason = f"gain √(log(3·{m})·log(2·{n})/3) = {gamma:.3g}, an encoder's (SubLN)"
        changes = scale_value_path(stacks.encoder, gamma, reason)
        reason = f"gain √log(3·{m}) = {gamma_m:.3g}, a decoder's (SubLN)"
        changes |= scale_value_path(stacks.decoder, gamma_m, reason)
        return changes, (
            f"sub_ln: gain {gamma:.3g} for values, outputs and feed-forward kernels of the "
            f"encoder, {gamma_m:.3g} of the decoder."
        )


@dataclass(frozen=True)
class TFixup:
    """Xavier times a factor for values, outputs and feed-forward kernels; no norm, no warmup.

    Huang et al. (2020), "Improving transformer optimization through better initialization",
    section 3.2: 0.67·N^−¼ for a stack of N blocks, (9M)^−¼ for the M blocks of a decoder that reads
    an encoder; embeddings N(0, d^−½) times the decoder's factor, or that of the one stack.
    """

    def changes(self, structure: ResidualStructure, uses: Uses) -> tuple[Changes, str]:
        """See `Policy`."""
        stacks = stacks_of("t_fixup", structure)
        n, m = stacks.encoder_blocks, stacks.decoder_blocks
        factor = last = 0.67 * n**-0.25
        changes = scale_value_path(stacks.encoder, factor, f"gain 0.67·{n}^−¼ (T-Fixup)")
        if stacks.decoder is not None:
            last = (9.0 * m) ** -0.25
            reason = f"gain (9·{m})^−¼, a decoder's (T-Fixup)"
            changes |= scale_value_path(stacks.decoder, last, reason)
        for name, use in uses.items():
            if use.role == Role.EMBEDDING:
                std = use.view[-1] ** -0.5
                changes[name] = Change("d^−½, scaled (T-Fixup)", last, scheme=Normal(std))
        said = f"t_fixup: gain {factor:.3g} on the way of the values, "
        if stacks.decoder is not None:
            said += f"{last:.3g} in the decoder, "
        return changes, said + f"and {last:.3g} on embeddings."


@dataclass(frozen=True)
class Fixup:
    """The last kernel of each branch zero, the m − 1 others as chosen, times L^(−1/(2m−2)).

    Zhang, Dauphin and Ma (2019), "Fixup initialization", section 3: L residual branches of m
    kernels each; the last kernel of the model is zero too.
    """

    def changes(self, structure: ResidualStructure, uses: Uses) -> tuple[Changes, str]:
        """See `Policy`."""
        check_branches("fixup", structure)
        changes: Changes = {}
        depth = len(structure.branches)
        for branch in structure.branches:
            m = len(branch.kernels)
            factor = depth ** (-1.0 / (2.0 * m - 2.0)) if m > 1 else 1.0
            for contraction in branch.kernels:
                reason = f"times {depth}^(−1/{2 * m - 2}) (Fixup)"
                changes[structure.parameters[contraction]] = Change(reason, factor)
        changes |= zero_last(structure, "zero: the last of a branch (Fixup)")
        outputs = [
            n
            for n, u in uses.items()
            if u.role in KERNEL_ROLES and u.follows.kind == NeighbourKind.OUTPUT
        ]
        for name in outputs[-1:]:
            changes[name] = Change("zero: the model's last (Fixup)", scheme=Constant(0.0))
        return changes, f"fixup: {depth} branches end in zeros; the others are scaled down."


@dataclass(frozen=True)
class ReZero:
    """Each residual branch starts at zero: its gate where it has one, else its last kernel.

    Bachlechner et al. (2020), "ReZero is all you need"; De and Smith (2020), "Batch normalization
    biases residual blocks towards the identity function" (SkipInit).
    """

    def changes(self, structure: ResidualStructure, uses: Uses) -> tuple[Changes, str]:
        """See `Policy`."""
        check_branches("rezero", structure)
        changes = zero_last(structure, "zero: each branch starts as the identity (ReZero)")
        return changes, f"rezero: {len(structure.branches)} branches start at zero."


@dataclass(frozen=True)
class ZerO:
    """Nothing random: identities, a Hadamard matrix where a kernel widens, zeros at a branch's end.

    Zhao, Schäfer and Anandkumar (2022), "ZerO initialization: initializing neural networks with
    only zeros and ones", Algorithm 1.
    """

    def changes(self, structure: ResidualStructure, uses: Uses) -> tuple[Changes, str]:
        """See `Policy`."""
        changes: Changes = {}
        for name, use in uses.items():
            if (
                use.role not in (Role.DENSE, Role.CONVOLUTION)
                or use.packed > 1
                or use.layout is None
            ):
                continue
            size = sizes(use.view, use.layout)
            if size["O"] > size["I"] and use.groups == 1:
                changes[name] = Change("widens: Hadamard's signs (ZerO)", scheme=Hadamard())
            elif "K" in use.layout:
                scheme = Dirac(use.groups)
                changes[name] = Change("the identity at the centre (ZerO)", scheme=scheme)
            else:
                changes[name] = Change("the identity (ZerO)", scheme=Identity())
        if structure.branches:
            changes |= zero_last(structure, "zero: the last of a branch (ZerO)")
        return changes, f"zero: {len(changes)} kernels without chance."
