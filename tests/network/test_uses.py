"""Uses: what follows from how a parameter is used."""

from __future__ import annotations

import pytest

from fanwise.network.uses import Use

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
    found = use.split(*taken)
    assert (found.blocks, found.interleaved) == (blocks, together)
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
    assert use.split(*taken) is use


@pytest.mark.parametrize("turn", [1, -1])
def test_of_several_uses_the_kernels_counts(turn):
    kernel, bias = Use("dense", (4, 4), "OI"), Use("bias", (4, 4))
    first, second = (kernel, bias)[::turn]
    assert first.merged_with(second).role == "dense"
    assert kernel.merged_with(kernel).times == 2
    assert kernel.merged_with(kernel, again=False) is kernel


@pytest.mark.parametrize("turn", [1, -1])
def test_an_embedding_that_is_a_kernel_is_tied(turn):
    first, second = (Use("embedding", (9, 4), "BO"), Use("dense", (9, 4), "OI"))[::turn]
    both = first.merged_with(second)
    assert (both.role, both.tied, both.times) == ("embedding", True, 2)
