"""The TPU kernels: interpreted against the loop, lowered, and compiled without a TPU."""

import functools
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax._src.pallas.mosaic.interpret import interpret_pallas_call as interpreter
from jax.experimental import topologies
from jax.experimental.pallas import tpu as pltpu
from jax.sharding import AxisType, PartitionSpec, SingleDeviceSharding

from gru_audio.nn.cells import CELLS
from gru_audio.nn.kernels import tpu
from gru_audio.nn.kernels.gradient import differentiable
from gru_audio.nn.kernels.loop import Loop
from gru_audio.nn.kernels.tpu import PallasTpu
from gru_audio.settings import UserError

TIME, BATCH, HIDDEN = 7, 19, 5
LENGTHS = np.arange(BATCH, dtype=np.int32) % TIME + 1
# Three chunks of time and two tiles of the batch; the last of each hangs over.
TILED = PallasTpu(frames=3, rows=16, interpret=True)
WHOLE = PallasTpu(interpret=True)


def example(cell, *, time=TIME, batch=BATCH, hidden=HIDDEN, dtype=jnp.float32, members=()):
    """Returns parameters, projections and an initial carry, all nonzero."""
    rng = np.random.default_rng(0)

    def normal(*shape, dtype=jnp.float32):
        return jnp.asarray(rng.normal(0, 0.5, (*members, *shape)), dtype)

    shapes = {name: (hidden, hidden * len(g)) for name, g in CELLS[cell].kernels.items()}
    shapes |= {name: (hidden * len(g),) for name, g in CELLS[cell].vectors.items()}
    return (
        {name: normal(*shape) for name, shape in shapes.items()},
        tuple(normal(time, batch, hidden, dtype=dtype) for _ in CELLS[cell].gates),
        tuple(normal(batch, hidden) for _ in CELLS[cell].carry),
    )


def gradients(loops, cell, reverse=False):
    """Returns ``(arguments, lengths) -> gradients, (outputs, carry)`` of a loss of all results."""

    def loss(arguments, lengths):
        result = differentiable(loops, CELLS[cell], *arguments, lengths, reverse)
        leaves = jax.tree.leaves(result)
        return sum(jnp.sin(3 * leaf.astype(jnp.float32)).sum() for leaf in leaves), result

    return jax.grad(loss, has_aux=True)


def assert_close(found, expected, atol=1e-5):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol), found, expected)


@pytest.mark.parametrize(
    ("cell", "reverse", "lengths"),
    [
        ("gru", False, LENGTHS),
        ("gru", True, None),
        ("lstm", False, None),
        *((cell, True, LENGTHS) for cell in CELLS),
    ],
)
def test_values_and_gradients(cell, reverse, lengths):
    arguments = example(cell)
    expected = jax.jit(gradients(Loop(), cell, reverse))(arguments, lengths)
    assert_close(jax.jit(gradients(TILED, cell, reverse))(arguments, lengths), expected)


@pytest.mark.parametrize(("cell", "reverse"), [("gru", False), ("lstm", True)])
def test_races(cell, reverse):
    """Two cores share the tiles. Uninitialised memory is NaN."""
    small = {"batch": 11, "time": 5}
    arguments, lengths = example(cell, **small), LENGTHS[:11] % 5
    careful = pltpu.InterpretParams(detect_races=True, num_cores_or_threads=2)
    kernels = PallasTpu(frames=2, rows=8, interpret=careful)
    found = jax.block_until_ready(jax.jit(gradients(kernels, cell, reverse))(arguments, lengths))
    assert interpreter.races is not None and not interpreter.races.races_found
    assert_close(found, jax.jit(gradients(Loop(), cell, reverse))(arguments, lengths))


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_many_runs(cell):
    """Each run has its own weights and lengths, under vmap and under map."""
    arguments = example(cell, members=(2,), batch=3)
    lengths = jnp.array([[7, 3, 1], [2, 5, 7]])

    def one_by_one(loops):
        return jax.jit(lambda *each: lax.map(lambda one: gradients(loops, cell)(*one), each))

    expected = one_by_one(Loop())(arguments, lengths)
    assert_close(jax.jit(jax.vmap(gradients(WHOLE, cell)))(arguments, lengths), expected)
    assert_close(one_by_one(WHOLE)(arguments, lengths), expected)


def over_devices(loops, cell, devices):
    """Returns the gradients, with the batch distributed over devices."""
    mesh = jax.make_mesh((len(devices),), ("data",), (AxisType.Auto,), devices=devices)
    whole, split = PartitionSpec(), PartitionSpec(None, "data")
    arguments = (whole, split, PartitionSpec("data"))

    def local(arguments, lengths):
        (params, *rest), result = gradients(loops, cell)(arguments, lengths)
        return (lax.psum(params, "data"), *rest), result

    return jax.shard_map(
        local,
        mesh=mesh,
        in_specs=(arguments, PartitionSpec("data")),
        out_specs=(arguments, (split, PartitionSpec("data"))),
        check_vma=False,
    )


@pytest.mark.parametrize(("cell", "devices"), [("gru", 1), ("gru", 4), ("lstm", 2)])
def test_over_devices(cell, devices):
    arguments, lengths = example(cell, batch=8), LENGTHS[:8]
    found = jax.jit(over_devices(WHOLE, cell, jax.devices()[:devices]))(arguments, lengths)
    assert_close(found, jax.jit(gradients(Loop(), cell))(arguments, lengths))


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_bfloat16(cell):
    """Both round at the same points; they differ only if a sum lies between two numbers."""
    arguments = example(cell, dtype=jnp.bfloat16)
    expected = jax.jit(gradients(Loop(), cell))(arguments, LENGTHS)
    found = jax.jit(gradients(TILED, cell))(arguments, LENGTHS)
    for a, b in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        assert a.dtype == b.dtype
        a, b = a.astype(jnp.float32), b.astype(jnp.float32)
        assert jnp.abs(a - b).mean() < 2**-9 * jnp.abs(b).mean()


@pytest.mark.parametrize("time", [1, 100])
@pytest.mark.parametrize("batch", [8, 136, 1000])
@pytest.mark.parametrize("hidden", [128, 512, 1024])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_tiles_fit(time, batch, hidden, dtype):
    frames, rows = tpu.tile((time, batch, hidden), [dtype] * 12, states=2)
    assert rows % (32 // jnp.dtype(dtype).itemsize) == 0 and rows < batch + 16
    assert 1 <= frames <= time
    streamed = 2 * 12 * frames * rows * hidden * jnp.dtype(dtype).itemsize
    assert streamed < tpu.STREAMS


def test_weights_that_do_not_fit():
    assert tpu.fits(CELLS["lstm"], 1024, jnp.float32)
    assert tpu.fits(CELLS["lstm"], 2048, jnp.bfloat16)
    assert not tpu.fits(CELLS["lstm"], 2048, jnp.float32)
    arguments = jax.eval_shape(lambda: example("lstm", hidden=2048))
    with pytest.raises(UserError, match='implementation="loop"'):
        jax.eval_shape(gradients(WHOLE, "lstm"), arguments, None)


def kernels_for_a_tpu(function, cell, **sizes):
    """Returns the number of kernels in a program for a TPU."""
    members = sizes.get("members", ())
    arguments = jax.eval_shape(lambda: example(cell, batch=16, **sizes))
    lengths = jax.ShapeDtypeStruct((*members, 16), jnp.int32)
    exported = jax.export.export(jax.jit(function), platforms=["tpu"])(arguments, lengths)
    return exported.mlir_module().count("@tpu_custom_call")


@pytest.mark.parametrize(
    ("cell", "hidden", "dtype"),
    [
        ("gru", 128, jnp.float32),
        ("gru", 200, jnp.bfloat16),
        ("lstm", 128, jnp.bfloat16),
        ("lstm", 200, jnp.float32),
    ],
)
def test_lowers(cell, hidden, dtype):
    sizes = {"hidden": hidden, "dtype": dtype}
    plain = gradients(PallasTpu(), cell)
    spread = over_devices(PallasTpu(), cell, jax.devices()[:2])
    assert kernels_for_a_tpu(plain, cell, **sizes) == 2
    assert kernels_for_a_tpu(jax.vmap(plain), cell, members=(3,), **sizes) == 2
    assert kernels_for_a_tpu(spread, cell, **sizes) == 2


@pytest.mark.parametrize("cell", CELLS)
def test_every_cell_lowers(cell):
    assert kernels_for_a_tpu(gradients(PallasTpu(), cell, reverse=True), cell, hidden=128) == 2


@pytest.mark.parametrize(
    ("cell", "dtype"), [*((cell, jnp.float32) for cell in CELLS), ("gru", jnp.bfloat16)]
)
def test_compiles(cell, dtype):
    """With the TPU compiler, which needs no TPU."""
    pytest.importorskip("libtpu", reason="needs pip install libtpu")
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    device = topologies.get_topology_desc("v5e:2x2", "tpu").devices[0]
    place = functools.partial(
        jax.tree.map,
        lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=SingleDeviceSharding(device)),
    )
    arguments = place(jax.eval_shape(lambda: example(cell, hidden=128, dtype=dtype)))
    lengths = place(jax.ShapeDtypeStruct(LENGTHS.shape, LENGTHS.dtype))
    compiled = jax.jit(gradients(PallasTpu(), cell)).lower(arguments, lengths).compile()
    assert compiled.as_text().count('custom_call_target="tpu_custom_call"') == 2
