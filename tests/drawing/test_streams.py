"""The stream is the contract's: known answers, and a second reading of it in plain Python."""

from hashlib import blake2b

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.golden import philox_vectors, word_vectors

import fanwise as fw
from fanwise.drawing.streams import key_words, philox, stream_words, words_at
from fanwise.errors import ArgumentError

MASK = 0xFFFFFFFF
seeds = st.integers(0, 2**64 - 1)
names = st.text(max_size=20)
# Where something wraps: a tile, 32 bits of the element, 32 bits of the block, the stream's end.
starts = st.one_of(
    st.integers(0, 300),
    *(st.integers(2**power - 300, 2**power) for power in (31, 32, 33, 34, 35, 63)),
    st.integers(2**64 - 600, 2**64 - 200),
    st.integers(0, 2**64 - 300),
)


def plain_philox(counter, key):
    """Philox4x32-10 on Python's integers, from the paper's definition."""
    (a, b, c, d), (k, m) = counter, key
    for _ in range(10):
        p, q = 0xD2511F53 * a, 0xCD9E8D57 * c
        a, b, c, d = (q >> 32) ^ b ^ k, q & MASK, (p >> 32) ^ d ^ m, p & MASK
        k, m = (k + 0x9E3779B9) & MASK, (m + 0xBB67AE85) & MASK
    return [a, b, c, d]


def plain_word(seed, name, element):
    """One word of a stream, as the contract reads."""
    digest = blake2b(name.encode("utf-8"), digest_size=8).digest()
    tile, rest = divmod(element, 64)
    block = 16 * tile + rest % 16
    low, high = int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little")
    lanes = plain_philox((block & MASK, block >> 32, low, high), (seed & MASK, seed >> 32))
    return lanes[rest // 16]


@pytest.mark.parametrize(("counter", "key", "expected"), philox_vectors())
def test_philox_gives_the_known_answers(counter, key, expected):
    as_arrays = [np.array([word], dtype=np.uint32) for word in counter + key]
    lanes = philox(tuple(as_arrays[:4]), tuple(as_arrays[4:]))
    assert [int(lane[0]) for lane in lanes] == expected
    assert plain_philox(counter, key) == expected


@given(st.lists(st.integers(0, MASK), min_size=6, max_size=6))
def test_philox_is_the_papers(words):
    arrays = [np.array([word], dtype=np.uint32) for word in words]
    lanes = philox(tuple(arrays[:4]), tuple(arrays[4:]))
    assert [int(lane[0]) for lane in lanes] == plain_philox(words[:4], words[4:])


@pytest.mark.parametrize(("seed", "name", "start", "expected"), word_vectors())
def test_words_are_the_known_ones(seed, name, start, expected):
    assert fw.words(seed, name, start, len(expected)).tolist() == expected
    assert [plain_word(seed, name, start + i) for i in range(len(expected))] == expected


@given(seeds, names, starts, st.integers(0, 200))
def test_words_are_the_contracts(seed, name, start, count):
    words = fw.words(seed, name, start, count)
    assert words.dtype == np.uint32
    assert words.tolist() == [plain_word(seed, name, start + i) for i in range(count)]


@given(seeds, names, starts, st.data())
def test_a_stretch_is_the_slice_of_a_longer_one(seed, name, start, data):
    whole = fw.words(seed, name, start, 200)
    first = data.draw(st.integers(0, 200))
    last = data.draw(st.integers(first, 200))
    assert np.array_equal(fw.words(seed, name, start + first, last - first), whole[first:last])


def test_a_stream_ends_where_it_should():
    last = fw.words(7, "x", 2**64 - 3, 3)
    assert last.tolist() == [plain_word(7, "x", 2**64 - 3 + i) for i in range(3)]
    assert fw.words(7, "x", 2**64, 0).size == 0


@pytest.mark.parametrize("shape", [(), (1,), (3, 5), (2, 0, 4)])
def test_words_at_keeps_the_shape_of_its_elements(shape):
    element = np.arange(np.prod(shape, dtype=int), dtype=np.uint64).reshape(shape)
    words = words_at(3, "w", element)
    assert words.shape == shape
    assert words.ravel().tolist() == [plain_word(3, "w", i) for i in range(element.size)]


@pytest.mark.parametrize("integer", [np.int8, np.uint32, np.int64, np.uint64])
def test_any_integer_is_a_seed_and_a_position(integer):
    expected = fw.words(5, "w", 100, 9)
    assert np.array_equal(fw.words(integer(5), "w", integer(100), integer(9)), expected)


def test_numpy_integers_do_not_wrap_at_the_end():
    last = np.uint64(2**64 - 2)
    assert np.array_equal(fw.words(0, "", last, np.int64(2)), fw.words(0, "", 2**64 - 2, 2))
    with pytest.raises(ArgumentError):
        fw.words(0, "", last, np.int64(3))
    assert key_words(np.uint64(2**64 - 1)) == (MASK, MASK)


def test_a_bool_is_the_integer_it_is():
    assert np.array_equal(fw.words(True, "", 0, 8), fw.words(1, "", 0, 8))


@pytest.mark.parametrize(
    ("seed", "message"),
    [
        (-1, "seed must be in [0, 2**64), got -1: take it modulo 2**64."),
        (
            2**64,
            "seed must be in [0, 2**64), got 18446744073709551616: take it modulo 2**64.",
        ),
        (1.0, "seed must be an integer, got 1.0 (float): pass e.g. seed=0."),
        ("1", "seed must be an integer, got '1' (str): pass e.g. seed=0."),
        (None, "seed must be an integer, got None (NoneType): pass e.g. seed=0."),
        (
            np.float32(2),
            "seed must be an integer, got np.float32(2.0) (float32): pass e.g. seed=0.",
        ),
    ],
)
def test_a_seed_that_is_none_says_so(seed, message):
    with pytest.raises(ArgumentError) as error:
        fw.words(seed, "", 0, 1)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("start", "count", "where"),
    [
        (-1, 1, "-1 to 0"),
        (0, -1, "0 to -1"),
        (2**64, 1, "18446744073709551616 to 18446744073709551617"),
        (2**64 - 1, 2, "18446744073709551615 to 18446744073709551617"),
    ],
)
def test_a_range_outside_the_stream_says_so(start, count, where):
    with pytest.raises(ArgumentError) as error:
        fw.words(0, "", start, count)
    assert str(error.value) == (
        f"words {where} lie outside a stream's [0, 2**64): pass start >= 0 and count >= 0."
    )


def test_similar_seeds_have_streams_of_their_own():
    near = {seed ^ 1 << bit for seed in (0, 1, 2**63) for bit in range(64)} | {0, 1, 2**63}
    assert len({fw.words(seed, "w", 0, 2).tobytes() for seed in near}) == len(near)


def test_similar_names_have_streams_of_their_own():
    near = [f"layers.{i}.{kind}" for i in range(500) for kind in ("weight", "bias")]
    near += ["", " ", "a", "A", "a ", "\0", "a\0", "é", "e\u0301", "重み", "😀"]
    assert len({stream_words(name) for name in near}) == len(near)
    assert len({fw.words(0, name, 0, 2).tobytes() for name in near}) == len(near)
