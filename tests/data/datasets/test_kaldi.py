"""Kaldi archives: the same matrices as from kaldiio, and truncation is detected."""

import io

import kaldiio
import numpy as np
import pytest

from gru_audio.data.datasets.kaldi import parse


def matrices() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {"utt-1": (20, 13), "größe": (1, 13), "c|d": (7, 13), "x": (9, 1)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def archive(path, arrays, **options) -> bytes:
    kaldiio.save_ark(str(path), arrays, **options)
    return path.read_bytes()


@pytest.mark.parametrize("method", [None, 2, 3, 4, 5, 6, 7])
def test_matrices_are_those_that_kaldiio_reads(tmp_path, method):
    content = archive(tmp_path / "x.ark", matrices(), compression_method=method)
    expected = dict(kaldiio.load_ark(io.BytesIO(content)))
    found = parse(content)
    assert list(found) == list(expected)
    for name, matrix in found.items():
        values = matrix.read()
        assert (matrix.rows, matrix.columns) == values.shape == expected[name].shape
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, expected[name], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_that_are_not_compressed_are_exact(tmp_path, dtype):
    arrays = {name: array.astype(dtype) for name, array in matrices().items()}
    for name, matrix in parse(archive(tmp_path / "x.ark", arrays)).items():
        np.testing.assert_array_equal(matrix.read(), arrays[name])


def test_text(tmp_path):
    arrays = matrices()
    content = archive(tmp_path / "x.ark", arrays, text=True)
    for name, matrix in parse(content).items():
        np.testing.assert_allclose(matrix.read(), arrays[name], rtol=1e-5)
    assert parse(b"a [ ]\nb  [\n 1 2\n 3 4 ]\n")["b"].read().tolist() == [[1, 2], [3, 4]]


def test_every_cut_is_noticed_or_ends_at_an_entry(tmp_path):
    arrays = matrices()
    content = archive(tmp_path / "x.ark", arrays)
    whole = [len(archive(tmp_path / "y.ark", dict(list(arrays.items())[:n]))) for n in range(1, 5)]
    for end in range(1, len(content)):
        if end in whole:
            assert len(parse(content[:end])) == whole.index(end) + 1
        else:
            with pytest.raises(ValueError):
                parse(content[:end])
    assert parse(b"") == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a \0BFM \4\1\0\0\0\4\1\0\0\0\0\0\0\0" * 2, "'a' twice"),
        (b"a \0BFV \4\1\0\0\0\0\0\0\0", "not a matrix"),
        (b"a [ 1 2\n 3 ]\n", "rows of different lengths"),
        (b"a [ 1 two ]\n", "two"),
        (b"a 1 2 3\n", "not a matrix"),
        (b"\xff\xfe [ 1 ]\n", "utf-8"),
        (b"alone", "without a matrix"),
    ],
)
def test_other_things_are_refused(content, message):
    with pytest.raises(ValueError, match=message):
        parse(content)
