"""The JAX zoo: every model that fanwise is held to, and what each is known to miss."""

from dataclasses import replace

from jaxzoo import equinox_models, functions, haiku_nets, linen_models, nnx_models
from jaxzoo.known import KNOWN

ENTRIES = [
    replace(entry, known=KNOWN.get(entry.name, {}))
    for table in (haiku_nets, linen_models, nnx_models, equinox_models, functions)
    for entry in table.ENTRIES
]
PACKAGES = tuple(
    (
        "jax flax dm-haiku equinox nanodl nano-moe-jax mamba2-jax "
        "jaxkan jraphx bijx Equimo memax pdequinox neojax-operators diffrax flowjax jraph"
    ).split()
)
"""From which the models are, as they are called where they are installed from."""
