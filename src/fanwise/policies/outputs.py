"""Smaller outputs for models that put out values, and no scores of classes."""

from __future__ import annotations

from collections.abc import Mapping

from fanwise.network.uses import CONVOLUTION_ROLES, KERNEL_ROLES, NeighbourKind, Use
from fanwise.policies.base import Change, Changes

VALUE_RMS = 0.1
"""Of an output that is compared with values: what it is at the start has to be unlearned."""
MAX_IMAGE_CHANNELS = 4
"""A map of at most this many channels is an image: one of values, colours, or these and alpha."""


def shrink_values(uses: Mapping[str, Use]) -> Changes:
    """Return changes after which outputs that can only be values start small.

    A single output is no score of a class among others, nor is an image that has the channels of
    the one put in. A loss compares them with values, and whatever they are at the start has to be
    unlearned, in slow directions too. A classifier, which has to outgrow its start, learns more
    slowly from a small one, so that an output of any other width keeps rms 1.

    Args:
        uses: of the parameters, by name.
    """
    pictured = {
        use.widths[0]
        for use in uses.values()
        if use.role in CONVOLUTION_ROLES
        and use.widths is not None
        and use.feeds.kind == NeighbourKind.INPUT
    }
    result: Changes = {}
    for name, use in uses.items():
        if use.role not in KERNEL_ROLES or use.widths is None or use.logits or use.packed > 1:
            continue
        if use.follows.kind != NeighbourKind.OUTPUT or use.feeds.oscillates:
            continue
        units = use.widths[1]
        image = use.role in CONVOLUTION_ROLES and units <= MAX_IMAGE_CHANNELS and units in pictured
        if units == 1 or image:
            what = "a single output" if units == 1 else "an image like the one put in"
            reason = f"× {VALUE_RMS:g}: {what} is compared with values (docs/training.md)"
            result[name] = Change(reason, VALUE_RMS)
    return result
