"""Maps and alignment: which small unit each unit copies, which small layer each layer is."""

import numpy as np
import pytest

from fanwise.growing.alignment import LayerKey, NoCounterpart, align
from fanwise.growing.axes import Axis, concatenation, product
from fanwise.growing.maps import Maps, SizeConflict
from fanwise.growing.weights import copied, summing_to_nothing


def matched(large, small):
    maps = Maps()
    maps.match(large, small)
    maps.solve()
    return maps


def test_whole_heads_are_copied():
    heads = product([Axis(4), Axis(2)])
    maps = matched(heads, product([Axis(2), Axis(2)]))
    assert maps.indices(heads).tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    assert maps.copies(heads).tolist() == [2] * 8
    assert maps.even(heads)


def test_packed_parts_copy_their_own():
    packed = concatenation([Axis(3), Axis(3)])
    maps = matched(packed, concatenation([Axis(2), Axis(2)]))
    assert maps.indices(packed).tolist() == [0, 1, 0, 2, 3, 2]
    assert not maps.even(packed)
    assert maps.grown(packed)


def test_groups_of_queries_copy_groups():
    groups, queries = Axis(4), Axis(2)
    keys = product([groups, Axis(1)])
    maps = Maps()
    maps.match(product([groups, queries]), Axis(4))  # the small model has one query a key
    maps.match(keys, Axis(4))
    maps.solve()
    assert maps.small_size(queries) == 1
    assert maps.indices(product([groups, queries])).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_sizes_that_do_not_fit():
    with pytest.raises(SizeConflict, match="3 is less than 4"):
        matched(Axis(3), Axis(4))
    shared, maps = Axis(8), Maps()
    maps.match(shared, Axis(4), "a")
    with pytest.raises(SizeConflict, match="copy 4 units in one place and 2 in another") as caught:
        maps.match(shared, Axis(2), "b")
    assert caught.value.name == "b"
    with pytest.raises(SizeConflict, match="can't be told to copy 6"):
        matched(product([Axis(4), Axis(6)]), Axis(6))


def test_a_layer_of_copies_sums_to_the_same():
    inputs, outputs, maps = Axis(5), Axis(4), Maps()
    maps.match(inputs, Axis(2))
    maps.match(outputs, Axis(3))
    rng = np.random.default_rng(0)
    small, x = rng.normal(size=(3, 2)), rng.normal(size=2)
    large = copied(small, (outputs, inputs), maps, {1})
    noise = summing_to_nothing(rng.normal(size=(4, 5)), 1, maps.indices(inputs))
    assert np.abs(noise).max() > 0.1
    y = (large + noise) @ x[maps.indices(inputs)]
    np.testing.assert_allclose(y, (small @ x)[maps.indices(outputs)], atol=1e-12)
    wrong = copied(small, (outputs, inputs), maps) @ x[maps.indices(inputs)]
    assert np.abs(wrong - (small @ x)[maps.indices(outputs)]).max() > 0.1, "not divided"


def layers(*names, kind="Linear", sizes=(4,)):
    return [LayerKey(name, (kind,), sizes) for name in names]


def test_layers_are_aligned_by_name_and_then_in_order():
    assert align(layers("a", "b", "c"), layers("a", "c")) == {"a": "a", "c": "c"}
    small = [*layers("0"), *layers("2", kind="output")]
    large = [*layers("0", "2", "4"), *layers("6", kind="output")]
    assert align(large, small) == {"0": "0", "6": "2"}


def test_a_layer_that_is_smaller_is_no_counterpart():
    large = [*layers("0", sizes=(4,)), *layers("1", sizes=(8,))]
    assert align(large, layers("x", sizes=(6,))) == {"1": "x"}
    with pytest.raises(NoCounterpart, match="y"):
        align(layers("x"), layers("y", kind="Conv2d"))


def test_layers_that_grow_by_one_factor_are_the_same():
    """Of (4, 3), (8, 4) grown to twice the width, with layers between: (8, 8) is none of (8, 4)."""

    def convolutions(**sizes):
        return [LayerKey(name, ("Conv2d",), size) for name, size in sizes.items()]

    small = [*convolutions(a=(4, 3), x=(8, 4)), LayerKey("head", ("Linear",), (5, 8))]
    large = [*convolutions(a=(8, 3), b=(8, 8), c=(16, 8)), LayerKey("head", ("Linear",), (5, 16))]
    assert align(large, small) == {"a": "a", "c": "x", "head": "head"}
