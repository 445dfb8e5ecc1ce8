"""Uses: what follows from how a parameter is used."""

from __future__ import annotations

import pytest

from fanwise.uses import Use

QKV = Use("dense", (24, 8), "OI")


@pytest.mark.parametrize(
    ("use", "taken", "blocks", "together", "fans"),
    [
        (QKV, (3, 8, 24), 3, 0, (8, 8)),
        (QKV, (3, 2, 24), 3, 2, (8, 8)),
        (Use("dense", (8, 24), "IO"), (3, 8, 24), 3, 0, (8, 8)),
        (Use("dense", (4, 16, 8), "BOI"), (2, 8, 16), 2, 0, (8, 8)),
    ],
    ids=["one after another", "by heads", "transposed", "of each expert"],
)
def test_each_part_that_an_output_is_taken_apart_into_is_a_kernel(
    use, taken, blocks, together, fans
):
    found = use.taken_apart(*taken)
    assert (found.blocks, found.together) == (blocks, together)
    assert tuple(found.fans) == fans


@pytest.mark.parametrize(
    ("use", "taken"),
    [
        (Use("embedding", (24, 8), "BO"), (2, 4, 8)),
        (Use("dense", (3, 8, 8), "BOI"), (3, 8, 24)),
        (Use("dense", (5, 4, 8), "IOO"), (2, 4, 8)),
        (Use("dense", (24, 8), "OI", blocks=2), (3, 8, 24)),
    ],
    ids=["an embedding", "already stacked", "of two axes", "packed before"],
)
def test_what_can_not_be_taken_apart_is_left_whole(use, taken):
    assert use.taken_apart(*taken) is use
