"""The GPU kernels: interpreted against the plain loop, lowered for CUDA, and on a GPU if any."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import rnn
from jax.extend.core import jaxprs_in_params
from jax.sharding import AbstractDevice, AbstractMesh, AxisType, PartitionSpec, use_abstract_mesh

from gru_audio.nn.cells import CELLS
from gru_audio.nn.kernels import cudnn, gpu
from gru_audio.nn.kernels.choice import LOOP, Choice, Problem
from gru_audio.nn.kernels.gpu import PallasGpu, fits, shared_memory, stay
from gru_audio.nn.kernels.gradient import differentiable
from gru_audio.nn.kernels.loop import Loop
from gru_audio.nn.kernels.measuring import measure
from gru_audio.settings import UserError
from tests.nn import reference

MAIN = ["gru", "lstm", "gru_reset_before", "lstm_peephole"]
TIME, BATCH, HIDDEN = 7, 11, 5  # two tiles of rows, the second not full
LENGTHS = jnp.array([7, 3, 1, 5, 7, 2, 6, 4, 7, 1, 3], jnp.int32)
HOPPER, AMPERE, ADA = (shared_memory(of) for of in ("9.0", "8.0", "8.9"))
INTERPRETED = PallasGpu(interpret=True)


def example(cell, hidden=HIDDEN, dtype=jnp.float32, batch=BATCH, time=TIME, members=()):
    """Returns nonzero parameters, projections and an initial carry, random by `numpy`."""
    rng = np.random.default_rng(0)

    def draw(*shape, dtype=dtype):
        return jnp.asarray(rng.normal(0, 0.5, (*members, *shape)), dtype)

    cell = CELLS[cell]
    params = {
        name: draw(hidden, len(gates) * hidden, dtype=jnp.float32)
        for name, gates in cell.kernels.items()
    } | {name: draw(len(gates) * hidden, dtype=jnp.float32) for name, gates in cell.vectors.items()}
    projections = tuple(draw(time, batch, hidden) for _ in cell.gates)
    return params, projections, tuple(draw(batch, hidden, dtype=jnp.float32) for _ in cell.carry)


def gradient(loops, cell, reverse=False):
    """Returns ``(params, projections, carry, lengths) -> gradients, (outputs, carry)``."""

    def loss(params, projections, carry, lengths):
        outputs, final = differentiable(
            loops, CELLS[cell], params, projections, carry, lengths, reverse
        )
        return sum(
            (part.astype(jnp.float32) * weights(part.shape)).sum() for part in (outputs, *final)
        ), (outputs, final)

    return jax.grad(loss, argnums=(0, 1, 2), has_aux=True)


def weights(shape):
    return jnp.cos(jnp.arange(np.prod(shape), dtype=jnp.float32)).reshape(shape)


def close(ours, theirs, **tolerance):
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, **({"rtol": 1e-5, "atol": 1e-5} | tolerance)),
        *(jax.tree.map(lambda a: np.asarray(a, np.float32), tree) for tree in (ours, theirs)),
    )


@pytest.fixture
def on_the_cpu():
    """Interpreted kernels agree to 1e-5 there; a GPU rounds products to TF32."""
    with jax.default_device(jax.devices("cpu")[0]):
        yield


RESIDENT, STREAMED = (HIDDEN, True, True, LENGTHS), (33, False, False, LENGTHS)


@pytest.mark.parametrize(
    ("cell", "hidden", "resident", "reverse", "lengths"),
    [
        *((cell, *RESIDENT) for cell in ("gru", "lstm")),
        *((cell, *STREAMED) for cell in MAIN),
        ("gru", HIDDEN, None, False, None),
    ],
)
def test_equal_to_the_loop(on_the_cpu, cell, hidden, resident, reverse, lengths):
    """When streamed, 33 units are padded to 64, which are two slices."""
    arguments = *example(cell, hidden), lengths
    kernels = PallasGpu(resident=resident, interpret=True)
    ours = jax.jit(gradient(kernels, cell, reverse))(*arguments)
    close(ours, jax.jit(gradient(Loop(), cell, reverse))(*arguments))


@pytest.mark.parametrize("cell", [cell for cell in CELLS if cell not in MAIN])
def test_other_cells_equal_the_loop(on_the_cpu, cell):
    arguments = *example(cell), LENGTHS
    close(*(jax.jit(gradient(loops, cell))(*arguments) for loops in (INTERPRETED, Loop())))


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_bfloat16(cell):
    """The results differ by at most two roundings. Gradients of projections are bfloat16, too."""
    arguments = *example(cell, dtype=jnp.bfloat16), LENGTHS
    ours = jax.jit(gradient(INTERPRETED, cell))(*arguments)
    theirs = jax.jit(gradient(Loop(), cell))(*arguments)
    assert jax.tree.map(lambda a: a.dtype, ours) == jax.tree.map(lambda a: a.dtype, theirs)
    close(ours, theirs, rtol=2**-6, atol=2**-6)


@pytest.fixture(scope="module")
def members():
    """Three GRUs with different weights and data, and the gradients of each."""
    stacked = example("gru", members=(3,))
    alone = jax.jit(gradient(Loop(), "gru"))
    one_by_one = [alone(*jax.tree.map(lambda a, i=i: a[i], stacked), LENGTHS) for i in range(3)]
    return stacked, jax.tree.map(lambda *leaves: jnp.stack(leaves), *one_by_one)


def grids(jaxpr):
    """The grids of all Pallas kernels in a jaxpr."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "pallas_call":
            yield equation.params["grid_mapping"].grid
        else:
            for inner in jaxprs_in_params(equation.params):
                yield from grids(inner)


def test_vmap_adds_a_grid_dimension(members):
    stacked, expected = members
    run = jax.vmap(gradient(INTERPRETED, "gru"), (0, 0, 0, None))
    assert list(grids(jax.make_jaxpr(run)(*stacked, LENGTHS).jaxpr)) == [(3, 2), (3, 2)]
    close(jax.jit(run)(*stacked, LENGTHS), expected)


def test_members_under_map_inside_shard_map(members):
    stacked, expected = members
    devices = 3 if len(jax.devices()) >= 3 else 1
    mesh = jax.make_mesh((devices,), ("runs",), axis_types=(AxisType.Auto,))
    run = jax.shard_map(
        lambda stacked: jax.lax.map(
            lambda one: gradient(INTERPRETED, "gru")(*one, LENGTHS), stacked
        ),
        mesh=mesh,
        in_specs=PartitionSpec("runs"),
        out_specs=PartitionSpec("runs"),
        check_vma=False,
    )
    close(jax.jit(run)(stacked), expected)


def lowered(cell, dtype, members=()):
    """Returns the StableHLO of both passes for an H200; no GPU is needed."""
    run = gradient(PallasGpu(memory=HOPPER), cell)
    if members:
        run = jax.vmap(run, (0, 0, 0, None))
    arguments = jax.eval_shape(lambda: example(cell, 128, dtype, 32, 50, members))
    lengths = jax.ShapeDtypeStruct((32,), jnp.int32)
    device = AbstractDevice("NVIDIA H200", None, "gpu")
    with use_abstract_mesh(AbstractMesh((), (), abstract_device=device)):
        return jax.jit(run).trace(*arguments, lengths).lower(lowering_platforms=("cuda",)).as_text()


# JAX 0.12 announces that Pallas' way to Triton will be removed.
@pytest.mark.filterwarnings("ignore:The Pallas Triton backend:DeprecationWarning")
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("cell", CELLS)
def test_lowers_for_cuda(cell, dtype):
    text = lowered(cell, dtype)
    assert text.count("xla.gpu.triton") == 2
    assert text.count("grid_x = 4 : i32, grid_y = 1") == 2  # tiles of eight rows


@pytest.mark.filterwarnings("ignore:The Pallas Triton backend:DeprecationWarning")
@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_lowers_for_cuda_under_vmap(cell):
    text = lowered(cell, jnp.float32, members=(3,))
    assert text.count("xla.gpu.triton") == 2
    assert text.count("grid_x = 4 : i32, grid_y = 3") == 2


def test_what_fits():
    gru, lstm = CELLS["gru"], CELLS["lstm"]
    held = functools.partial(stay, memory=HOPPER)
    assert fits(lstm, 256, jnp.float32, HOPPER)
    assert not fits(gru, 257, jnp.bfloat16, HOPPER)
    assert not fits(gru, 16, jnp.float64, HOPPER)
    assert held(lstm, 128, jnp.bfloat16)
    assert held(gru, 128, jnp.float32)
    assert not held(lstm, 128, jnp.float32)
    assert not held(gru, 129, jnp.bfloat16)
    with jax.default_matmul_precision("float32"):
        assert not held(gru, 16, jnp.float32)
        assert held(gru, 16, jnp.bfloat16)


def test_less_fits_where_there_is_less_shared_memory():
    """163 and 99 KiB. By hand: 3 x 128 x (128 + 8) float32 take 204 KiB, in bfloat16 half of it."""
    gru, lstm = CELLS["gru"], CELLS["lstm"]
    assert not stay(gru, 128, jnp.float32, memory=AMPERE)
    assert stay(gru, 128, jnp.bfloat16, memory=AMPERE)
    assert not stay(gru, 128, jnp.bfloat16, memory=ADA)
    assert fits(lstm, 256, jnp.float32, AMPERE)  # slices of 128 KiB, and 8 KiB of rows
    assert not fits(lstm, 256, jnp.float32, ADA)
    with pytest.raises(UserError, match=r'cannot run 256 units in float32.*99 KiB.*"loop"'):
        arguments = jax.eval_shape(lambda: example("lstm", 256))
        jax.eval_shape(gradient(PallasGpu(memory=ADA), "lstm"), *arguments, LENGTHS)


def test_shared_memory_by_compute_capability():
    """In KiB. An unknown GPU, or none, gives the smallest."""
    found = {"8.0": 163, "8.6": 99, "8.9": 99, "9.0": 227, "10.0": 227, "12.0": 99, "99.9": 99}
    assert {name: shared_memory(name) // 1024 for name in found} == found
    if jax.default_backend() == "cpu":
        assert shared_memory() == ADA


def test_auto_takes_the_kernels_where_they_were_faster():
    """docs/performance.md: up to half a MiB of recurrent weights, and products of one pass."""
    pays = functools.partial(gpu.pays, memory=HOPPER)
    gru, lstm = CELLS["gru"], CELLS["lstm"]
    assert pays(gru, 128, jnp.float32) and pays(lstm, 128, jnp.float32)
    assert pays(gru, 256, jnp.bfloat16)
    assert not pays(gru, 257, jnp.bfloat16)
    assert not pays(lstm, 256, jnp.float32)
    assert not pays(gru, 64, jnp.float64)
    with jax.default_matmul_precision("highest"):
        assert not pays(gru, 128, jnp.float32)
        assert pays(gru, 128, jnp.bfloat16)


def test_more_units_than_fit_are_refused():
    arguments = jax.eval_shape(lambda: example("gru", 257))
    with pytest.raises(UserError, match=r'cannot run 257 units.*at most 256.*"loop"'):
        jax.eval_shape(gradient(PallasGpu(), "gru"), *arguments, LENGTHS)


on_gpu = pytest.mark.skipif(
    jax.default_backend() != "gpu", reason="runs the kernels themselves, which takes a GPU"
)


def in_float64(cell, reverse, params, projections, carry):
    """`reference.layer` for each example, with an identity in place of the input kernel."""
    frames = np.concatenate(projections, axis=-1).swapaxes(0, 1)
    width = frames.shape[-1]
    params = {**params, "input_kernel": np.eye(width), "input_bias": np.zeros(width)}
    outputs, final = np.zeros(projections[0].shape), [np.zeros_like(value) for value in carry]
    for i, length in enumerate(np.resize(LENGTHS, len(frames))):
        start = tuple(value[i] for value in carry)
        outputs[:length, i], end = reference.layer(
            cell, params, frames[i, :length], start, reverse=reverse
        )
        for whole, value in zip(final, end, strict=True):
            whole[i] = value
    return outputs, tuple(final)


def as_float64(tree):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


@on_gpu
@pytest.mark.parametrize(
    ("rows", "resident", "reverse"),
    [(8, True, False), (8, False, True), (16, True, True), (16, False, False), (64, True, False)],
)
@pytest.mark.parametrize("cell", MAIN)
def test_on_a_gpu_against_float64(cell, rows, resident, reverse):
    """In full float32: values, and directional derivatives of the loss."""
    arguments = example(cell, 40)
    with jax.default_matmul_precision("float32"):
        kernels = PallasGpu(rows=rows, resident=resident)
        gradients, result = jax.jit(gradient(kernels, cell, reverse))(*arguments, LENGTHS)
    arguments = as_float64(arguments)
    close(result, in_float64(cell, reverse, *arguments))

    def loss(arguments):
        outputs, final = in_float64(cell, reverse, *arguments)
        parts = (outputs, *final)
        return sum((part * as_float64(weights(part.shape))).sum() for part in parts)

    rng = np.random.default_rng(1)
    for part in range(3):  # the parameters, the projections, the carry
        direction = jax.tree.map(lambda a: rng.normal(size=a.shape), arguments[part])

        def moved(by, part=part, direction=direction):
            changed = list(arguments)
            changed[part] = jax.tree.map(lambda a, d: a + by * d, arguments[part], direction)
            return loss(changed)

        slopes = jax.tree.map(lambda g, d: (as_float64(g) * d).sum(), gradients[part], direction)
        slope = (moved(1e-5) - moved(-1e-5)) / 2e-5
        assert sum(jax.tree.leaves(slopes)) == pytest.approx(slope, rel=1e-4, abs=1e-3)


@on_gpu
@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_on_a_gpu_with_tensor_cores(cell, dtype, resident):
    """With TF32 and bfloat16 rounding, at a size that needs no padding."""
    arguments = example(cell, 64, dtype, batch=32, time=50)
    lengths = jnp.resize(LENGTHS, 32)
    with jax.default_matmul_precision("tensorfloat32"):
        ours = jax.jit(gradient(PallasGpu(resident=resident), cell))(*arguments, lengths)
    close(ours[1], in_float64(cell, False, *as_float64(arguments)), rtol=0.05, atol=0.05)
    with jax.default_matmul_precision("float32"):
        theirs = jax.jit(gradient(Loop(), cell))(
            *jax.tree.map(lambda a: a.astype(jnp.float32), arguments), lengths
        )
    norms = jax.tree.map(
        lambda a, b: jnp.linalg.norm(a.astype(jnp.float32) - b) / jnp.linalg.norm(b), ours, theirs
    )
    assert max(jax.tree.leaves(norms)) < 0.05


@on_gpu
def test_on_a_gpu_under_vmap():
    stacked = example("gru", 40, members=(3,))
    run = jax.vmap(gradient(PallasGpu(), "gru"), (0, 0, 0, None))
    loop = jax.vmap(gradient(Loop(), "gru"), (0, 0, 0, None))
    with jax.default_matmul_precision("float32"):
        close(*(jax.jit(run)(*stacked, LENGTHS) for run in (run, loop)), rtol=1e-4, atol=1e-4)


def test_cudnn_equals_the_loop(on_the_cpu):
    """With JAX's reference of cuDNN, which a CPU runs."""
    arguments = example("lstm")
    lengths = LENGTHS.at[2].set(0)

    def reference_of_cudnn(inputs, h, c, weights, lengths, *sizes):
        width, hidden, layers, _, both = sizes
        parts = rnn.unpack_lstm_weights(weights, width, hidden, layers, both)
        return rnn.lstm_ref(inputs, h, c, *parts, lengths, *sizes)

    def results(run, reverse):
        def loss(params, projections, carry):
            outputs, final = run(CELLS["lstm"], params, projections, carry, lengths, reverse)
            return sum((part * weights(part.shape)).sum() for part in (outputs, *final)), outputs

        return jax.jit(jax.grad(loss, argnums=(0, 1, 2), has_aux=True))(*arguments)

    for reverse in (False, True):
        ours = results(functools.partial(cudnn.lstm, call=reference_of_cudnn), reverse)
        close(ours, results(functools.partial(differentiable, Loop()), reverse))


@on_gpu
@pytest.mark.parametrize("reverse", [False, True])
def test_on_a_gpu_cudnn_equals_the_loop(reverse):
    problem = Problem("lstm", 16, 32, "float32", True, reverse)
    rows = measure(problem, 20, 1, [LOOP, Choice("cudnn")], {}, 0.0)
    assert all("us" in row for row in rows), rows
