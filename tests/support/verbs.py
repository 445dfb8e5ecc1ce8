"""The words of the front ends' verbs, in the one order in which every signature has them."""

import inspect

WORDS = (
    "self model inputs seed params loss optimizer policy rules keep trained mode names shardings "
    "call histograms threads base target tolerance tries progress check_ranks "
    "buffers_filled prefix only".split()
)


def misplaced_words(verb):
    """Return a verb's parameters where they aren't `WORDS`, in their order; else nothing."""
    parameters = list(inspect.signature(verb).parameters)
    return [] if parameters == [word for word in WORDS if word in parameters] else parameters
