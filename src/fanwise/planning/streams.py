"""Streams: no two parameters of a plan are drawn from the same words."""

from __future__ import annotations

from collections.abc import Iterable

from fanwise.errors import ArgumentError
from fanwise.names import Stream
from fanwise.planning.rows import Row
from fanwise.schemes.distributions import Constant


def check_streams(streams: Iterable[tuple[Row, Stream]], remedy: str) -> None:
    """Raise `ArgumentError` where two parameters would be drawn from the same words.

    Constants take no words, so that any number of them may share a stream.

    Args:
        streams: the rows of a plan, each with the stream that a map of names gives it.
        remedy: what to do about two that share one, for the message.
    """
    first: dict[Stream, str] = {}
    for row, stream in streams:
        if row.like or all(isinstance(draw, Constant) for draw in row.draws):
            continue
        other = first.setdefault(stream, row.name)
        if other != row.name:
            raise ArgumentError(
                f"{other!r} and {row.name!r} both map to the stream {stream.name!r}, and would be "
                f"alike: {remedy}"
            )
