"""Numbers and shapes as readers write them."""

from __future__ import annotations

import math

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number_text(value: float | None) -> str:
    """Return a number to three digits; a dash for none.

    >>> [number_text(x) for x in (0.12345, -4.2e-9, 1234.5, None)]
    ['0.123', '−4.2×10⁻⁹', '1234', '–']
    """
    if value is None:
        return "–"
    if value < 0:
        return f"−{number_text(-value)}"
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if 1e-3 <= value < 1e5:
        return f"{value:.3g}" if value < 999.5 else f"{value:.0f}"
    digits, exponent = f"{value:.2e}".split("e")
    return f"{float(digits):g}×10{str(int(exponent)).translate(SUPERSCRIPTS)}"


def short_number(value: float | None) -> str:
    """Return a number to three digits, for narrow columns; a dash for none.

    >>> [short_number(x) for x in (0.12345, -4.2e-9, 1234.5, None)]
    ['0.123', '-4.2e-09', '1.23e+03', '–']
    """
    if value is None:
        return "–"
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    return f"{value:.3g}" if 1e-3 <= abs(value) < 1e5 else f"{value:.1e}"


def shape_text(shape: tuple[int, ...]) -> str:
    """Return a shape as 64×3×7×7."""
    return "×".join(map(str, shape)) or "scalar"
