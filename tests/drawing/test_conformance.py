"""NumPy's front end against the table of all front ends; and the table against the reference."""

import pytest
from support import conformance

import fanwise as fw


class TestNumPy(conformance.Draws):
    def draw(self, scheme, shape, **arguments):
        return fw.draw(scheme, shape, **arguments)


@pytest.mark.parametrize("layout", conformance.LAYOUTS)
def test_the_table_is_the_reference_engine_s(layout):
    known = conformance.expected()
    assert known.keys() == set(conformance.DRAW_CASES)
    for case in conformance.DRAW_CASES:
        if case.layout == layout:
            assert conformance.digest(conformance.by_reference(case)) == known[case], case


def test_other_bits_have_another_digest():
    case = conformance.DrawCase("normal", "IO", "float32")
    array = conformance.by_reference(case)
    array.view("uint32")[3, 5] ^= 1
    assert conformance.digest(array) != conformance.expected()[case]
