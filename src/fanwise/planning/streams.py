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
        if row.like or all(isinstance(draw, Constant) for draw in row.draws):
            continue
        if stream.order and not reorders:
            raise ArgumentError(
                f"{row.name!r}: its stream {stream.name!r} has its kernels in the order "
                f"{stream.order}; only fanwise.keras draws packed kernels in another order."
            )
        other = first.setdefault(stream._replace(order=()), row.name)
        if other != row.name:
            raise ArgumentError(
                f"{other!r} and {row.name!r} both map to the stream {stream.name!r}, and would be "
                f"alike: {remedy}"
            )
