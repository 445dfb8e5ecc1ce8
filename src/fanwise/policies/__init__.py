"""Policies: what depth asks of a residual network's weights, each with its paper and its formula.

`fanwise.planning.choose` gives each kernel the scale that its own use asks for. A policy then
changes what the model as a whole asks for: the branches that a residual stream sums, the width
that a learning rate is moved across. Pick one by name, or let ``"auto"`` look at how the branches
are normalized.
"""

from fanwise.policies.admin import Admin
from fanwise.policies.auto import POLICIES, Auto, get
from fanwise.policies.base import Change, Changes, Plain, Policy
from fanwise.policies.corrections import Correction, Corrections, Optimizer
from fanwise.policies.critical import Critical
from fanwise.policies.ngpt import NGPT
from fanwise.policies.papers import (
    GPT2,
    DeepNorm,
    Fixup,
    Mitchell,
    NeoX,
    ReZero,
    SmallInit,
    SubLN,
    TFixup,
    Wang2,
    ZerO,
)
from fanwise.policies.parametrizations import CompleteP, DepthMuP, Everett, MuP, Spectral
from fanwise.policies.unit_scaled import UMuP

__all__ = [
    "GPT2",
    "NGPT",
    "POLICIES",
    "Admin",
    "Auto",
    "Change",
    "Changes",
    "CompleteP",
    "Correction",
    "Corrections",
    "Critical",
    "DeepNorm",
    "DepthMuP",
    "Everett",
    "Fixup",
    "Mitchell",
    "MuP",
    "NeoX",
    "Optimizer",
    "Plain",
    "Policy",
    "ReZero",
    "SmallInit",
    "Spectral",
    "SubLN",
    "TFixup",
    "UMuP",
    "Wang2",
    "ZerO",
    "get",
]
