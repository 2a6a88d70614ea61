"""Two experiments compiled for chips that are not here; `make accelerators` compiles all."""

import importlib.util

import pytest

from tests.accelerators import SOURCES, main, parts
from tests.golden_configs import FRAMES, SOUNDS

needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="needs libtpu: pip install gru-audio[aot]"
)
NAMES = ["own_cell", "yesno"]


@pytest.mark.parametrize("topology", [pytest.param("v5e:2x2", marks=needs_libtpu), "l4:2"])
def test_two_experiments(tmp_path, capsys, topology):
    flags = [f"--topology={topology}", f"--folder={tmp_path}"]
    assert main([*flags, *NAMES]) == 0, [log.read_text() for log in tmp_path.glob("*.log")]
    shown = capsys.readouterr().out
    assert "failed: none" in shown
    assert [line.split()[:2] for line in shown.splitlines()[1:3]] == [[n, "2"] for n in NAMES]


def test_a_failure_is_named(tmp_path, capsys):
    assert main(["--topology=none:1", f"--folder={tmp_path}", NAMES[0]]) == 1
    assert f"FAILED: {tmp_path / NAMES[0]}.log" in capsys.readouterr().out
    assert "must be" in (tmp_path / f"{NAMES[0]}.log").read_text()


def test_every_experiment_has_a_stand_in():
    assert {data_set for _, data_set in parts(()).values()} <= {*SOUNDS, *FRAMES}
    assert SOURCES.keys() <= parts(()).keys()
