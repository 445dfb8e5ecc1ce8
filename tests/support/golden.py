"""Known answers, read by every engine's tests from `vectors`; each file says how."""

import shlex
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "vectors"


def golden(kind, file="stream-v1.txt"):
    """Return (given, expected) of each line of this kind, both as lists of text."""
    text = (FOLDER / file).read_text("utf-8")
    lines = (shlex.split(line, comments=True) for line in text.splitlines())
    found = [words[1:] for words in lines if words and words[0] == kind]
    if not found:
        raise LookupError(f"{file} has no line that starts with {kind!r}")
    splits = [(words, words.index("=")) for words in found]
    return [(words[:at], words[at + 1 :]) for words, at in splits]


def philox_vectors():
    """Return (counter, key, words) of each known block."""
    return [
        (
            [int(word, 16) for word in given[:4]],
            [int(word, 16) for word in given[4:]],
            [int(word, 16) for word in expected],
        )
        for given, expected in golden("philox")
    ]


def word_vectors():
    """Return (seed, name, start, words) of each known stretch of a stream."""
    return [
        (int(seed), name, int(start), [int(word, 16) for word in expected])
        for (seed, name, start), expected in golden("words")
    ]


def variate_vectors(kind):
    """Return (*bounds, word, variate) of each known variate, a signed integer."""
    return [
        (*map(float, bounds), int(word, 16), int(variate))
        for (*bounds, word), (variate,) in golden(kind)
    ]


def weight_vectors():
    """Return (draw, dtype, seed, name, bits) of each known start of a tensor; draw as its repr."""
    return [
        (draw, dtype, int(seed), name, [int(word, 16) for word in bits])
        for (draw, dtype, seed, name), bits in golden("weights")
    ]
