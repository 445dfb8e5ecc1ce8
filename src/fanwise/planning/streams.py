"""Streams: no two parameters of a plan are drawn from the same words."""

from __future__ import annotations

from collections.abc import Iterable

from fanwise.errors import ArgumentError
from fanwise.names import Stream
from fanwise.planning.rows import Row
from fanwise.schemes.distributions import Constant


def check_streams(
    streams: Iterable[tuple[Row, Stream]], remedy: str, *, reorders: bool = False
) -> None:
    """Raise `ArgumentError` where two parameters would be drawn from the same words.

    So too where a stream has its kernels in an order that can't be followed.

    Constants take no words, so that any number of them may share a stream.

    Args:
        streams: the rows of a plan, each with the stream that a map of names gives it.
        remedy: what to do about two that share one, for the message.
        reorders: whether the front end draws packed kernels in another order than the stream's.
    """
    first: dict[Stream, str] = {}
    for row, stream in streams:
        if stream.order and not (reorders and _packs(row, len(stream.order))):
            raise ArgumentError(
                f"{row.name!r} isn't seen to pack {len(stream.order)} kernels, which the order "
                f"{stream.order} of its stream {stream.name!r} is of; only fanwise.keras draws "
                "them in another order."
            )
        if row.like or all(isinstance(draw, Constant) for draw in row.draws):
            continue
        other = first.setdefault(stream, row.name)
        if other != row.name:
            raise ArgumentError(
                f"{other!r} and {row.name!r} both map to the stream {stream.name!r}, and would be "
                f"alike: {remedy}"
            )


def _packs(row: Row, count: int) -> bool:
    layout = row.layout or ""
    return "B" in layout and row.view[layout.index("B")] == count
