"""A rank's shards: index arithmetic here, real processes in `sharded_suite.py`."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.distributed.tensor.placement_types import Partial, Replicate, Shard, _StridedShard

import fanwise.torch as fwt
from fanwise.errors import ArgumentError
from fanwise.torch.sharding import _runs_along, pieces_of


@dataclass
class Mesh:
    """A mesh as seen by one of its ranks; nobody else is asked."""

    shape: tuple[int, ...]
    coordinate: tuple[int, ...]

    def get_coordinate(self):
        return self.coordinate


@dataclass
class Held:
    """What a rank holds of `whole`: each placement splits what those before it have left."""

    whole: torch.Tensor
    device_mesh: Mesh
    placements: tuple

    @property
    def shape(self):
        return self.whole.shape

    def detach(self):
        return self

    def to_local(self):
        local = self.whole
        ways = zip(
            self.placements, self.device_mesh.shape, self.device_mesh.coordinate, strict=True
        )
        for placement, count, own in ways:
            if isinstance(placement, Shard | _StridedShard):
                local = placement._split_tensor(local, count, with_padding=False)[0][own]
        return local


@st.composite
def shardings(draw):
    shape = draw(st.lists(st.integers(1, 9), min_size=1, max_size=3).map(tuple))
    mesh = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple))
    axes = st.integers(0, len(shape) - 1)
    kinds = st.one_of(
        st.just(Replicate()),
        axes.map(Shard),
        st.builds(lambda axis, n: _StridedShard(axis, split_factor=n), axes, st.integers(1, 3)),
    )
    return shape, mesh, tuple(draw(kinds) for _ in mesh)


@given(shardings(), st.data())
def test_pieces_show_what_a_rank_holds_in_any_view(sharding, data):
    shape, mesh, placements = sharding
    whole = torch.arange(prod(shape)).view(shape)
    splits = [
        data.draw(st.sampled_from([(d, n // d) for d in range(1, n + 1) if n % d == 0]))
        for n in shape
    ]
    views = [None, shape, tuple(n for pair in splits for n in pair), (prod(shape),)]
    for coordinate in product(*map(range, mesh)):
        held = Held(whole, Mesh(mesh, coordinate), placements)
        for view in views:
            pieces = pieces_of(held, view)
            assert sum(memory.numel() for memory, _ in pieces) == held.to_local().numel()
            for memory, box in pieces:
                assert torch.equal(memory, whole.view(view or shape)[box])


def test_a_partial_placement_is_refused():
    held = Held(torch.zeros(4, 4), Mesh((2,), (0,)), (Partial(),))
    with pytest.raises(ArgumentError, match=r"a term of a sum.*Redistribute it to Shard"):
        pieces_of(held, name="fc.weight")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("suite", "ranks", "last"),
    [
        ("sharded_suite.py", 4, "every case is equal\n"),
        ("agreement_suite.py", 2, "where one fails, all do\n"),
        ("agreement_suite.py", 4, "where one fails, all do\n"),
        ("pipeline_suite.py", 4, "every stage is the whole's\n"),
        ("fsdp1_suite.py", 2, "FSDP1's are the whole's\n"),
        ("measuring/ranks_suite.py", 2, "every signal is one process's\n"),
        ("measuring/ranks_suite.py", 4, "every signal is one process's\n"),
    ],
)
def test_real_processes_do_what_one_does(tmp_path, suite, ranks, last):
    path, store = Path(__file__).parent / suite, tmp_path / "store"
    started = [
        subprocess.Popen(
            [sys.executable, str(path), str(rank), str(ranks), str(store)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(ranks)
    ]
    said = [process.communicate(timeout=300)[0] for process in started]
    assert [process.returncode for process in started] == [0] * ranks, "\n".join(said)
    assert all(text.endswith(last) for text in said)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's compiler deprecates itself
def test_wrappers_change_no_name():
    """Compiled, checkpointed, data-parallel, also inside one another: they are back afterwards."""
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

    def build():
        return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Sequential(nn.Linear(8, 4)))

    x, model = torch.ones(2, 4), build()
    model[2] = checkpoint_wrapper(model[2])
    model[0] = nn.DataParallel(model[0])
    wrapped = torch.compile(model)
    children = list(model.children())
    plan = fwt.plan(wrapped, x)
    assert plan == fwt.plan(build(), x)
    assert plan.apply(wrapped, seed=3) is wrapped
    assert list(model.children()) == children
    whole = fwt.init_(build(), x, seed=3)
    assert all(map(torch.equal, model.parameters(), whole.parameters()))


@pytest.mark.parametrize(
    ("size", "placements", "ways"),
    [
        (128256, [Shard(0), Shard(0)], (250, 4)),
        (37, [Shard(0)], (4,)),
        (5, [Shard(0)], (8,)),  # ranks that hold nothing
        (90, [_StridedShard(0, split_factor=4), Shard(0)], (3, 4)),
        (16, [Replicate(), Shard(0)], (2, 4)),
    ],
)
def test_the_regions_of_all_ranks_tile_an_axis(size, placements, ways):
    held = [0] * size
    for rank in product(*map(range, ways)):
        for run in _runs_along(0, size, 2, placements, ways, rank):
            for index in range(run.start, run.start + run.size):
                held[index] += 1
    copies = prod(n for p, n in zip(placements, ways, strict=True) if p.is_replicate())
    assert held == [copies] * size
