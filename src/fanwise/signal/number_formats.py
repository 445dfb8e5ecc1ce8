"""Formats of low precision, and how many entries are looked at to see what they can't hold."""

MOST_CHECKED = 1 << 14
"""Most entries, evenly spaced, of which the share outside a format is counted."""
# Maximum number and smallest subnormal: IEEE 754 binary16; bfloat16; OCP float8 E4M3.
NUMBER_FORMATS = {
    "float16": (65504.0, 2.0**-24),
    "bfloat16": (3.3895313892515355e38, 2.0**-133),
    "float8": (448.0, 2.0**-9),
}
