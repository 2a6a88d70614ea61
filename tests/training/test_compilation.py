"""The cache of compiled programs changes no result, whatever happens to it."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import pytest

from gru_audio.training.compilation import directory, shrink, use_compilation_cache
from tests.commands import assert_same_leavings, leavings, run, write_experiment


@pytest.fixture
def train(environment, tmp_path):
    """Returns a function that trains in a new workdir; its cache is under `tmp_path`."""
    file = write_experiment(tmp_path / "tones.py", "'train.steps': 3, 'train.eval_every': 3")
    clean = {n: v for n, v in environment.items() if "CACHE" not in n}
    count = iter(range(100))

    def start(cache=tmp_path / "cache", **variables):
        workdir = tmp_path / f"workdir{next(count)}"
        caches = {"XDG_CACHE_HOME": str(cache), "MPLCONFIGDIR": str(tmp_path)}
        caches |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}  # stores all programs
        ended = run(clean | caches | variables, "train", f"--config={file}", f"--workdir={workdir}")
        assert "cache" not in ended.stderr, ended.stderr
        return workdir

    return start


def entries(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_size for path in folder.rglob("*-cache")}


def test_results_are_the_same_without_with_and_with_a_damaged_cache(train, tmp_path):
    expected = leavings(train(JAX_ENABLE_COMPILATION_CACHE="false"))
    assert not entries(tmp_path)
    with ThreadPoolExecutor() as pool:  # two processes write the same entries
        for workdir in pool.map(lambda _: train(), range(2)):
            assert_same_leavings(workdir, expected)
    written = entries(tmp_path)
    assert len(written) > 2

    damaged = max(written, key=lambda path: written[path])  # it took longest to compile
    times = {path: path.stat().st_mtime_ns for path in written if path != damaged}
    os.truncate(damaged, written[damaged] // 2)  # as a kill while writing leaves it
    assert_same_leavings(train(), expected)
    assert damaged.stat().st_size > written[damaged] // 2
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_a_cache_that_cannot_be_written_is_not_used(train, tmp_path):
    (tmp_path / "file").touch()
    train(cache=tmp_path / "file")


def test_it_can_be_switched_off():
    try:
        use_compilation_cache(False)
        assert not jax.config.jax_enable_compilation_cache
    finally:
        jax.config.update("jax_enable_compilation_cache", True)


def test_shrinking_deletes_the_oldest_files(tmp_path):
    for i in range(4):
        path = tmp_path / f"kind{i % 2}" / str(i)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(100))
        os.utime(path, (i, i))
    shrink(tmp_path, 250)
    assert sorted(path.name for path in tmp_path.rglob("?")) == ["2", "3"]
    shrink(tmp_path, 250)
    assert len(list(tmp_path.rglob("?"))) == 2
    shrink(tmp_path / "absent", 0)


def test_the_directory_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert directory().parent == tmp_path / "gru_audio" / "compiled"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert directory().is_relative_to(Path.home() / ".cache")
