"""The third-party zoo: every model, and why some fall short of what is asked of all."""

from dataclasses import replace

from thirdparty import diffusion, pictures, small, vit, xt
from thirdparty.known import KNOWN

ENTRIES = [
    replace(entry, known=KNOWN.get(f"{entry.family}: {entry.name}", {}))
    for table in (xt, vit, pictures, diffusion, small)
    for entry in table.ENTRIES
]
