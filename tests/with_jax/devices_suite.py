"""Bit identity over 1, 4 and 8 devices: see test_jax_devices, which starts it with eight."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from support import conformance

import fanwise.jax as fwj
from fanwise.jax import initializers

KEY = jax.random.key(7)
SPECS = {1: [P()], 4: [P("a"), P(None, "a")], 8: [P("a", "b"), P(("b", "a")), P(None, "b")]}
COLLECTIVE = re.compile(r"all-gather|all-reduce|all-to-all|collective-permute")
# Partitioning compiles for seconds: all draws, dtypes and layouts on eight devices, few on fewer.
FEW = [case for case in conformance.FEW_CASES if case.dtype != "float64" and case.layout != "KKIO"]
PROGRAMS = {8: FEW, 4: [case for case in FEW if case.dtype == "float32"], 1: FEW[:1]}
ONE = conformance.DrawCase("normal", "IO", "float32")
EXPECTED = conformance.expected()


def mesh_of(count, kind=AxisType.Auto):
    devices = np.array(jax.devices()[:count])
    shape = (4, 2) if count == 8 else (count, 1)
    return Mesh(devices.reshape(shape), ("a", "b"), axis_types=(kind, kind))


def same_bits(one, other):
    one, other = (np.ascontiguousarray(array) for array in (one, other))
    kind = f"u{other.dtype.itemsize}"
    return one.dtype == other.dtype and np.array_equal(one.view(kind), other.view(kind))


def spec_of(shape, count):
    """Return a spec that shares a shape out among this many devices, along what axes divide."""
    spec = [None] * len(shape)
    for name, parts in (("a", 4), ("b", 2))[: {1: 0, 4: 1, 8: 2}[count]]:
        free = [axis for axis, n in enumerate(shape) if n % parts == 0 and spec[axis] is None]
        if free:
            spec[free[0]] = name
    return P(*spec)


def drawn(case, sharding=None):
    shape = conformance.LAYOUTS[case.layout]
    return fwj.draw(
        conformance.DRAW_KINDS[case.kind],
        shape,
        seed=conformance.SEED,
        name=conformance.NAME,
        layout=case.layout,
        dtype=case.dtype,
        sharding=sharding,
    )


def check(case, array, sharding):
    assert array.dtype == case.dtype
    assert conformance.digest(array) == EXPECTED[case], case
    assert array.sharding.is_equivalent_to(sharding, array.ndim), case


def shared_out(cases, count):
    """Return a sharding for each case."""
    mesh = mesh_of(count)
    return [NamedSharding(mesh, spec_of(conformance.LAYOUTS[c.layout], count)) for c in cases]


def test_there_are_eight_devices():
    assert jax.device_count() == 8


def run(cases, shardings):
    """Check cases under `jit`, partitioned by XLA: no communication, no temporary memory."""
    program = jax.jit(lambda: [drawn(case) for case in cases], out_shardings=shardings)
    compiled = program.lower().compile()
    for case, array, sharding in zip(cases, compiled(), shardings, strict=True):
        check(case, array, sharding)
    assert not COLLECTIVE.search(compiled.as_text())
    memory = compiled.memory_analysis()
    assert memory.temp_size_in_bytes < 0.05 * memory.output_size_in_bytes


@pytest.mark.parametrize("count", PROGRAMS)
def test_each_device_makes_its_own_part(count):
    run(PROGRAMS[count], shared_out(PROGRAMS[count], count))


@pytest.mark.parametrize(("count", "spec"), [(n, s) for n, all_of in SPECS.items() for s in all_of])
def test_along_any_axes(count, spec):
    run([ONE], [NamedSharding(mesh_of(count), spec)])


@pytest.mark.parametrize("count", [1, 4, 8])
def test_host_memory_is_filled_part_by_part(count, monkeypatch):
    """Outside `jit`: each part is written once, however many devices hold it."""
    from fanwise.jax import memory

    written = []
    fill = memory.fill
    monkeypatch.setattr(
        memory, "fill", lambda out, *a, **k: (written.append(out.size), fill(out, *a, **k))
    )
    cases = conformance.CASES_WITHOUT_FLOAT64
    specs = [NamedSharding(mesh_of(count), spec) for spec in SPECS[count]]
    for case, sharding in [
        *zip(cases, shared_out(cases, count), strict=True),
        *((ONE, s) for s in specs),
    ]:
        written.clear()
        array = drawn(case, sharding)
        check(case, array, sharding)
        assert sum(written) == array.size


def test_elsewhere_xla_computes_part_by_part(monkeypatch):
    """As on a GPU, whose memory the CPU engine doesn't fill."""
    from fanwise.jax import memory

    def fail(*_, **__):
        raise AssertionError("drawn on the host")

    monkeypatch.setattr(memory, "is_host", lambda devices: False)
    monkeypatch.setattr(memory, "fill", fail)
    sharding = NamedSharding(mesh_of(8), P("a", "b"))
    for kind in conformance.DRAW_KINDS:
        check(ONE._replace(kind=kind), drawn(ONE._replace(kind=kind), sharding), sharding)
    ones = fwj.draw("ones", (16, 40), seed=0, dtype=jnp.bfloat16, sharding=sharding)
    assert ones.dtype == jnp.bfloat16
    assert ones.sharding.is_equivalent_to(sharding, 2)
    assert float(ones.sum()) == 640
    assert conformance.digest(np.asarray(drawn(ONE))) == EXPECTED[ONE]


def test_explicit_axes():
    mesh = mesh_of(8, AxisType.Explicit)
    for name, spec in (("glorot_uniform", P("a", "b")), ("he_normal", P(None, "a"))):
        init = getattr(initializers, name)()
        whole = np.asarray(init(KEY, (16, 40)))
        with jax.set_mesh(mesh):
            program = jax.jit(lambda key, i=init, s=spec: i(key, (16, 40), None, s))
            array = program(KEY)
            assert same_bits(array, whole)
            assert array.sharding.spec == spec
            assert not COLLECTIVE.search(program.lower(KEY).compile().as_text())
            assert same_bits(init(KEY, (16, 40), None, spec), whole)


def test_shard_map_and_vmap():
    """Within `shard_map` each device draws for its own keys."""
    mesh, init = mesh_of(8), initializers.glorot_normal()
    keys = jax.random.split(KEY, 8)

    def members(keys):
        return jax.vmap(lambda key: init(key, (6, 10)))(keys)

    arrays = jax.shard_map(members, mesh=mesh, in_specs=P(("a", "b")), out_specs=P(("a", "b")))(
        keys
    )
    for key, array in zip(keys, arrays, strict=True):
        assert same_bits(array, init(key, (6, 10)))


def test_a_key_on_many_devices_gives_arrays_there():
    sharding = NamedSharding(mesh_of(8), P())
    array = initializers.glorot_normal()(jax.device_put(KEY, sharding), (6, 10))
    assert array.sharding.is_equivalent_to(sharding, 2)
    assert same_bits(array, initializers.glorot_normal()(KEY, (6, 10)))
    third = jax.devices()[2]
    assert initializers.normal()(jax.device_put(KEY, third), (3,)).devices() == {third}


class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.RNN(nn.OptimizedLSTMCell(8))(nn.Dense(16)(x))
        return nn.Dense(8)(nn.MultiHeadDotProductAttention(2)(x))


def test_a_sharded_tree_of_parameters():
    abstract = jax.eval_shape(Net().init, KEY, jnp.zeros((1, 4, 8)))
    whole = fwj.init(abstract, seed=3)
    mesh = mesh_of(8)

    def sharding(leaf):
        return NamedSharding(mesh, P(*([None] * (leaf.ndim - 1)), "a"))

    def fits(leaf):
        return sharding(leaf) if leaf.ndim and leaf.shape[-1] % 4 == 0 else NamedSharding(mesh, P())

    shardings = jax.tree.map(fits, abstract)
    for made in (
        fwj.init(abstract, seed=3, shardings=shardings),
        jax.jit(lambda: fwj.init(abstract, seed=3), out_shardings=shardings)(),
        fwj.init(
            jax.tree.map(
                lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s), abstract, shardings
            ),
            seed=3,
        ),
    ):
        for one, other, wanted in zip(
            *(jax.tree.leaves(tree) for tree in (made, whole, shardings)), strict=True
        ):
            assert same_bits(one, other)
            assert one.sharding.is_equivalent_to(wanted, one.ndim)
    one = fwj.init(abstract, seed=3, shardings=NamedSharding(mesh, P()))
    assert all(len(leaf.sharding.device_set) == 8 for leaf in jax.tree.leaves(one))
