"""Placements: results do not depend on where members and rows are."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import topologies

from gru_audio.settings import UserError
from gru_audio.training.compiled import Compiled, with_most_members
from gru_audio.training.placement import (
    MEMBERS,
    Kind,
    make_mesh,
    make_placement,
)
from gru_audio.training.step import DATA
from tests.tones import tiny

RNG = np.random.default_rng(0)


def placement_of(members, **parallel):
    settings = {"member": 0} | parallel
    changes = {f"parallel.{name}": value for name, value in settings.items()}
    return make_placement(tiny(changes).parallel, members)


@pytest.mark.parametrize(
    ("members", "parallel", "shape"),
    [
        (1, {}, (1, 1)),
        (3, {}, (3, 1)),
        (20, {}, (8, 1)),
        (20, {"data": 4}, (2, 4)),
        (1, {"data": 8}, (1, 8)),
        (20, {"member": 2, "data": 2}, (2, 2)),
        (20, {"mode": "pmap"}, (1, 1)),
        (3, {"mode": "pmap", "data": 4}, (1, 4)),
    ],
)
def test_devices_go_to_the_batch_first_and_then_to_members(members, parallel, shape):
    assert placement_of(members, **parallel).mesh.devices.shape == shape


@pytest.mark.parametrize(
    ("parallel", "message"),
    [
        ({"data": 16}, "config.parallel.data=16, but there are 8 devices"),
        ({"member": 3, "data": 4}, "needs 12 devices, but there are 8"),
        ({"member": 2, "mode": "pmap"}, "pmap does not divide members"),
    ],
)
def test_what_the_devices_cannot_do(parallel, message):
    with pytest.raises(UserError, match=message):
        placement_of(4, **parallel)


def test_padding_fills_the_mesh_with_the_first_member():
    placement = placement_of(3, member=2)
    assert placement.padded_members == 4
    np.testing.assert_array_equal(placement.pad(np.array([7, 8, 9])), [7, 8, 9, 7])


@pytest.mark.parametrize("mode", ["pjit", "pmap"])
def test_gather_and_scatter(mode):
    placement = placement_of(3, mode=mode, member=2 if mode == "pjit" else 1)
    tree = {"a": RNG.normal(size=(3, 2)).astype(np.float32), "b": np.arange(3)}
    spread = placement.scatter(tree)
    gathered = placement.gather(spread)
    for name, value in tree.items():
        np.testing.assert_array_equal(gathered[name], value)
        assert gathered[name].sharding.is_fully_replicated
        assert placement.abstract(spread)[name].shape == value.shape
        assert placement.abstract(spread)[name].sharding == gathered[name].sharding


def standardised(scale, rows, offset):
    """A function of one member on one device, with a mean over devices."""
    mean = jax.lax.psum(rows.sum(), DATA) / jax.lax.psum(rows.size, DATA)
    return scale["by"] * (rows - mean) + offset


@pytest.mark.parametrize("kind", [Kind.ROWS, Kind.MEMBER])
@pytest.mark.parametrize(
    "parallel",
    [
        {},
        {"member": 1, "data": 2},
        {"member": 3, "data": 2},
        {"member": 2, "data": 4},
        {"mode": "pmap"},
        {"mode": "pmap", "data": 4},
    ],
    ids=str,
)
def test_a_function_of_one_member_becomes_one_of_all(parallel, kind):
    placement = placement_of(3, **parallel)
    scale, rows = {"by": np.float32([1, 2, 3])}, RNG.normal(size=(3, 8)).astype(np.float32)
    offset = np.float32(0.5)
    expected = scale["by"][:, None] * (rows - rows.mean(axis=1, keepdims=True)) + offset

    def function(scale, rows, offset):
        result = standardised(scale, rows, offset)
        return result if kind is Kind.ROWS else jax.lax.psum((result**2).sum(), DATA)

    arguments = (
        placement.put({"by": placement.pad(scale["by"])}, Kind.MEMBER),
        placement.put(placement.pad(rows), Kind.ROWS),
        placement.put(offset, Kind.SHARED),
    )
    kinds = (Kind.MEMBER, Kind.ROWS, Kind.SHARED)
    for _ in range(2):  # compiled once
        result = jax.device_get(placement.run("call", function, arguments, kinds, kind))[:3]
        spent = placement.compile_time
    if kind is Kind.MEMBER:
        expected = (expected**2).sum(axis=1)
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)
    assert spent.wall > 0 and spent.cpu > 0
    assert placement.memory_bytes >= rows.nbytes / 8


def test_donated_memory_is_taken():
    placement = placement_of(1)
    argument = placement.put(jnp.zeros((1, 1000)), Kind.MEMBER)
    call = placement.compile(lambda a: a + 1, (argument,), (Kind.MEMBER,), Kind.MEMBER, donate=(0,))
    call(argument)
    assert argument.is_deleted()


def memory_hungry(x):
    """Has temporaries of some hundred kilobytes per member."""
    grid = jnp.sin(x["by"] * jnp.arange(256.0)[:, None] * jnp.arange(256.0))
    return {"sum": (grid @ grid @ grid.T).sum()}


def test_as_many_members_in_one_vmap_as_fit():
    """The number follows from the memory of one and two members, and does not change results."""
    members = {"by": RNG.normal(size=12).astype(np.float32)}

    def compiled(**parallel):
        placement = placement_of(12, member=1, vmap_members=0, **parallel)
        spread = placement.put(members, Kind.MEMBER)
        call = placement.compile(memory_hungry, (spread,), (Kind.MEMBER,), Kind.MEMBER)
        return call, np.asarray(call(spread)["sum"])

    whole, expected = compiled()
    for share in (0.9, 0.5, 0.3):
        limit = share * whole.memory_bytes
        call, found = compiled(memory_gb=limit / 2**30)
        assert limit / 3 < call.memory_bytes <= limit
        np.testing.assert_allclose(found, expected, rtol=1e-4)
    least, _ = compiled(memory_gb=1e-9)  # nothing fits: one member at a time
    assert least.memory_bytes < 0.2 * whole.memory_bytes


@pytest.mark.parametrize(("room", "members"), [(12, 12), (11, 6), (5, 4), (2, 2), (1, 1)])
def test_fewer_members_if_the_compiler_runs_out_of_memory(room, members):
    """Simulates a compiler that runs out of memory, as on a TPU."""

    def compiled(vmap_members):
        if vmap_members > room:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Ran out of memory in hbm.")
        return Compiled(vmap_members, memory_bytes=vmap_members)

    assert with_most_members(compiled, 12, 2**30).call == members


def test_other_errors_of_a_compiler_are_raised():
    def compiled(vmap_members):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        with_most_members(compiled, 12, None)


@pytest.mark.parametrize(("member", "data"), [(3, 1), (2, 3), (8, 1)])
def test_a_mesh_is_in_the_order_of_the_devices(member, data):
    mesh = make_mesh(jax.devices()[::-1], member, data)
    assert mesh.shape == {MEMBERS: member, DATA: data}
    assert [device.id for device in mesh.devices.flat] == list(range(member * data))


@pytest.mark.parametrize(("member", "data"), [(16, 1), (3, 4), (2, 8), (7, 1)])
def test_a_process_has_one_part_of_the_members_on_a_tpu_too(member, data):
    """Four hosts of a torus, whose devices are not ordered by host."""
    pytest.importorskip("libtpu", reason="needs pip install libtpu")
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    devices = topologies.get_topology_desc("v5e:4x4", "tpu").devices
    hosts = [device.process_index for device in make_mesh(devices, member, data).devices.flat]
    assert hosts == [place // 4 for place in range(member * data)]
