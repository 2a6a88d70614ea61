"""Fixtures of all tests: eight devices, and small prepared data sets."""

import os
import pathlib
import signal
import sys

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 8)  # before JAX is used
if jax.default_backend() != "cpu":
    # By default a GPU rounds float32 operands to TF32, and a TPU to bfloat16. The tolerances of the
    # tests are those of float32. Tests of coarser products set their own precision.
    jax.config.update("jax_default_matmul_precision", "highest")

# A shell's background jobs ignore SIGINT, and so would the commands that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

from gru_audio.data.source import Source, open_source  # noqa: E402
from gru_audio.prepare import prepare  # noqa: E402
from tests import rolls as piano_rolls  # noqa: E402
from tests import songs as bird_songs  # noqa: E402
from tests import spelled  # noqa: E402
from tests.tones import NAME, RATE, SPLIT_BY, write_tones  # noqa: E402
from tests.trained import train  # noqa: E402

HERE = pathlib.Path(__file__).parent
QUICKLY_COMPILED = [  # folders and modules of tests whose programs compute little
    HERE / "audio",
    HERE / "benchmarks",
    HERE / "inference",
    HERE / "nn",
    HERE / "reports" / "test_gate_plots.py",
    HERE / "reports" / "test_sections.py",
    HERE / "tasks",
    HERE / "training" / "test_accumulation.py",
    HERE / "training" / "test_init.py",
    HERE / "training" / "test_per_frame.py",
    HERE / "training" / "test_precision.py",
    HERE / "training" / "test_truncation.py",
    HERE / "training" / "test_tuning.py",
    HERE / "training" / "test_vmapped.py",
]
THOROUGH = [  # folders and modules that take long and test what few changes touch
    HERE / "benchmarks",
    HERE / "data" / "datasets" / "test_strangers.py",
    HERE / "exports" / "test_stablehlo.py",
    HERE / "inference" / "test_generator.py",
    HERE / "inference" / "test_stream.py",
    HERE / "inference" / "test_stream_stages.py",
    HERE / "inference" / "test_windows.py",
    HERE / "nn" / "test_autoencoder.py",
    HERE / "nn" / "test_equations.py",
    HERE / "nn" / "test_generative.py",
    HERE / "nn" / "test_long_memory.py",
    HERE / "nn" / "test_remat.py",
    HERE / "nn" / "test_tcn.py",
    HERE / "reports" / "test_baselines.py",
    HERE / "reports" / "test_gate_plots.py",
    HERE / "reports" / "test_sections.py",
    HERE / "test_accelerators.py",
    HERE / "test_install.py",
    HERE / "test_music.py",
    HERE / "test_notebooks.py",
    HERE / "test_own_components.py",
    HERE / "test_processes.py",
    HERE / "test_search.py",
    HERE / "test_tagging.py",
    HERE / "test_trackers.py",
    HERE / "test_transcripts.py",
    HERE / "training" / "test_compilation.py",
    HERE / "training" / "test_ctc.py",
    HERE / "training" / "test_events.py",
    HERE / "training" / "test_generation.py",
    HERE / "training" / "test_grace.py",
    HERE / "training" / "test_sharing.py",
    HERE / "training" / "test_tuning.py",
]
assert all(path.exists() for path in QUICKLY_COMPILED + THOROUGH)


@pytest.hookimpl(tryfirst=True)  # before pytest selects by markers
def pytest_collection_modifyitems(items):
    """Marks the tests by folder and module, and puts those of commands first: they take longest."""
    for item in items:
        if item.path.parent in (HERE, HERE / "launch", HERE / "reliability"):
            item.add_marker(pytest.mark.commands)
        if any(item.path.is_relative_to(path) for path in THOROUGH):
            item.add_marker(pytest.mark.thorough)
    items.sort(key=lambda item: item.path.parent != HERE)


@pytest.fixture(scope="session", autouse=True)
def compilation_cache(tmp_path_factory):
    """Keeps compiled programs for the session, because many tests compile the same ones."""
    folder = tmp_path_factory.mktemp("compiled")
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    return folder


@pytest.fixture(scope="module", autouse=True)
def compilation(request):
    """Compiles without optimisations where tests compare values up to rounding.

    Tests of bit-identity compile as for users.
    """
    quick = any(request.path.is_relative_to(path) for path in QUICKLY_COMPILED)
    jax.config.update("jax_disable_most_optimizations", quick)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="session")
def tones_folder(tmp_path_factory):
    """Returns a folder with a directory of sound files per class."""
    folder = tmp_path_factory.mktemp("tones") / "sounds"
    write_tones(folder)
    return folder


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory, tones_folder):
    """Returns the folder of data sets; the tones are prepared there, split by speaker."""
    folder = tmp_path_factory.mktemp("data")
    prepare(
        "folder",
        folder,
        name=NAME,
        folder=tones_folder,
        split_by=SPLIT_BY,
        fractions=[60, 20, 20],
        sample_rate=RATE,
    )
    return folder


@pytest.fixture(scope="session")
def source(data_dir) -> Source:
    """The tones."""
    return open_source(NAME, data_dir)


@pytest.fixture(scope="session")
def rolls(data_dir) -> Source:
    """Piano rolls, prepared beside the tones."""
    file = data_dir / "rolls.mat"
    piano_rolls.write_rolls(file, piano_rolls.made_rolls())
    prepare(piano_rolls.NAME, data_dir, archive=str(file), verify=False)
    return open_source(piano_rolls.NAME, data_dir)


@pytest.fixture(scope="session")
def songs(data_dir) -> Source:
    """Songs with sound events, prepared beside the tones."""
    return bird_songs.write_songs(data_dir)


@pytest.fixture(scope="session")
def spelled_folder(tmp_path_factory):
    """Where the spelled texts are prepared, beside their sounds."""
    folder = tmp_path_factory.mktemp("spelled")
    spelled.prepare_spelled(folder)
    return folder


@pytest.fixture(scope="session")
def spelled_source(spelled_folder) -> Source:
    """The spelled texts."""
    return open_source(spelled.NAME, spelled_folder)


@pytest.fixture(scope="session")
def speller(spelled_source):
    """A causal model that transcribes the spelled texts without an error."""
    return train(spelled_source, spelled.config(), 60)


@pytest.fixture(scope="session")
def environment(data_dir, compilation_cache):
    """Returns the environment of commands that train on the tones."""
    return os.environ | {
        "GRU_AUDIO_DATA": str(data_dir),
        "JAX_COMPILATION_CACHE_DIR": str(compilation_cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
