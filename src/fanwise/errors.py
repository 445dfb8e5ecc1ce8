"""What fanwise raises: each message says what is wrong, where, and the remedy."""


class FanwiseError(Exception):
    """Anything that fanwise itself raises."""


class ArgumentError(FanwiseError, ValueError):
    """A value that no draw can be made from: seed, shape, layout, region, scheme, dtype, gain."""


class ModelError(FanwiseError):
    """A model that can't be run, planned, filled or measured."""


class TargetError(FanwiseError):
    """A command-line target or path that can't be imported, read or written."""
