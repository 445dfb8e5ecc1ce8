"""One Hypothesis profile for all tests: the same examples every time, however slow the machine.

`--hypothesis-profile=search` looks for new ones.
"""

from hypothesis import settings

settings.register_profile("fixed", deadline=None, derandomize=True, max_examples=60)
settings.register_profile("search", deadline=None, max_examples=1000)
settings.load_profile("fixed")
