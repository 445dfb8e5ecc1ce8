"""Which steps end what is run on samples: their outputs can be sampled in its place."""

from fanwise.network.steps.base import Source
from fanwise.network.steps.recurrence import Recurrence
from fanwise.network.steps.signals import Normalization, Sum
from fanwise.network.steps.weights import Kernel, Lookup, Scale, Shift

ROOTS = (Kernel, Lookup, Recurrence, Source)
"""Steps whose outputs are independent of what came before."""
NORMAL = (*ROOTS, Normalization, Scale, Shift, Sum)
"""Steps whose outputs are taken as normal."""
