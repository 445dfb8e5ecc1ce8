"""Factors on residual branches: into weights where every branch that shares these has the same."""

from __future__ import annotations

import pytest

from fanwise.network.branches import Branch, ResidualStructure
from fanwise.network.uses import Role, Use
from fanwise.policies.residual import residual_factors


def factors_of(*branches):
    """Return what becomes of the factors of branches, each (last kernel, shift, factor)."""
    names = {i: kernel for i, (kernel, _, _) in enumerate(branches)}
    structure = ResidualStructure(
        tuple(
            Branch((i,), ((i, None),), "pre", (), 0, i + 1, shifts=(shift,) if shift else ())
            for i, (_, shift, _) in enumerate(branches)
        ),
        parameters=names,
    )
    known = {name for kernel, shift, _ in branches for name in (kernel, shift) if name}
    return residual_factors(structure, dict.fromkeys(known, USE), [f for *_, f in branches])


USE = Use(Role.DENSE, (4, 4), "OI")


def test_a_kernel_that_is_shared_takes_a_factor_that_is_shared():
    found = factors_of(("a", "b", 0.5), ("a", "b", 0.5))
    assert (found.moved, found.must) == ({"a": 0.5, "b": 0.5}, [])


@pytest.mark.parametrize("other", [0.25, 1.0])
def test_else_every_branch_s_factor_is_the_code_s(other):
    """One of 1 is asked for too: a factor in the kernel would be on that branch as well."""
    found = factors_of(("a", "", 0.5), ("a", "", other), ("c", "", 0.5))
    assert found.moved == {"c": 0.5}
    assert found.must == [("a", f) for f in (0.5, other) if f != 1.0]


def test_what_is_shared_with_a_branch_that_cannot_move_cannot_move_either():
    """Here through a bias of two kernels, and a kernel of two branches."""
    found = factors_of(("a", "", 0.5), ("a", "bias", 0.5), ("c", "bias", 0.25), ("d", "", 0.25))
    assert found.moved == {"d": 0.25}
    assert found.must == [("a", 0.5), ("a", 0.5), ("c", 0.25)]
