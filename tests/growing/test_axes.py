"""Axes: what is one with what, and how axes are made up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanwise.growing.axes import (
    Axis,
    AxisConflict,
    concatenation,
    cut,
    product,
    reshape,
    split,
    unify,
)


def test_products_are_refined_to_what_both_are_made_of():
    heads = product([Axis(4), Axis(16)])
    grouped = product([Axis(2), Axis(2), Axis(16)])
    unify(heads, grouped)
    assert [leaf.size for leaf in heads.leaves] == [2, 2, 16]
    assert heads.root is grouped.root


def test_concatenations_are_cut_where_either_is():
    a, b = concatenation([Axis(4), Axis(8)]), concatenation([Axis(6), Axis(6)])
    unify(a, b)
    assert [leaf.size for leaf in a.leaves] == [4, 2, 6]


def test_a_product_is_cut_between_whole_units_of_its_first_factor():
    packed = product([Axis(3), Axis(8)])
    query, key, value = cut(packed, [8, 8, 8])
    assert repr(query.root) == repr(key.root) == repr(value.root) == "8"
    assert query.root is key.root is value.root, "each is one of three times the same units"
    with pytest.raises(AxisConflict, match="parts of 4, 20"):
        cut(packed, [4, 20])


def test_halves_that_are_swapped_are_alike():
    whole = Axis(8)
    first, second = cut(whole, [4, 4])
    unify(whole, concatenation([second, first]))  # as rotary positions do
    assert first.root is second.root


def test_axes_that_do_not_go_together():
    with pytest.raises(AxisConflict, match="an axis of 3 is used as one of 4"):
        unify(Axis(3), Axis(4))
    with pytest.raises(AxisConflict, match="24 units are used as"):
        unify(product([Axis(4), Axis(6)]), product([Axis(6), Axis(4)]))


def test_views_say_which_axes_they_show():
    batch, units = Axis(2), Axis(12)
    made, shown = reshape([batch, units], (2, 3, 4))
    assert shown == [(0,), (1,), (1,)]
    assert made[0].root is batch.root
    assert [leaf.size for leaf in units.leaves] == [3, 4]
    joined, _ = reshape([batch, units], (24,))
    assert [leaf.size for leaf in joined[0].leaves] == [2, 3, 4]


@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.data())
def test_a_view_and_back_gives_the_same_axes(shape, data):
    """Any wrong grouping of axes would leave a part without its own, or give two the same."""
    axes = [Axis(n) for n in shape]
    flat, _ = reshape(axes, (product(axes).size,))
    again, _ = reshape(flat, shape)
    for before, after in zip(axes, again, strict=True):
        assert before.size == after.size
        assert before.size == 1 or before.root is after.root


@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 5))
def test_splits_of_splits(a, b, c):
    whole = Axis(a * b * c)
    left, _ = split(whole, (a * b, c))
    split(left, (a, b))
    assert [leaf.size for leaf in whole.leaves] == [n for n in (a, b, c) if n > 1] or a * b * c == 1
