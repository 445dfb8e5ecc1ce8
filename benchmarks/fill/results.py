"""What one contender's runs of one task came to, and the names that results go by."""

from __future__ import annotations

from dataclasses import dataclass

OURS = "fanwise"
KERAS_BACKENDS = ("tensorflow", "jax", "torch")
FASTEST = "fastest of 60 rounds"
"""The process whose results compare all threads with torch and NumPy; the others' are medians."""


@dataclass(frozen=True)
class FillTime:
    """One contender on one task: seconds a call, median and quartiles, and values a call."""

    task: str
    contender: str
    threads: int
    process: str
    values: int
    seconds: float
    low: float
    high: float

    @property
    def rate(self) -> float:
        """10⁹ values a second."""
        return self.values / self.seconds / 1e9
