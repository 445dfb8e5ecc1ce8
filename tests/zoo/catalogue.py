"""The zoo: every model that fanwise is held to, and what each is known to miss."""

from dataclasses import replace

from zoo import builtin, feedforward, language, networks, raw, series, vision
from zoo.known import KNOWN

ENTRIES = [
    replace(entry, known=KNOWN.get(entry.name, {}))
    for table in (language, vision, series, builtin, raw, networks, feedforward)
    for entry in table.ENTRIES
]
