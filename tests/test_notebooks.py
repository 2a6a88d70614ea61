"""The notebooks in docs/notebooks run from top to bottom, and are stored without outputs."""

import json

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest

from tests.commands import ROOT

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook(path, tmp_path, monkeypatch, environment, capsys):
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells)
    monkeypatch.chdir(tmp_path)
    for name in ("PYTHONPATH", "JAX_COMPILATION_CACHE_DIR"):
        monkeypatch.setenv(name, environment[name])
    matplotlib.use("agg")
    monkeypatch.setattr(plt, "show", lambda: None)  # agg would warn
    names = {"__name__": "__main__"}
    for i, cell in enumerate(cells):
        exec(compile("".join(cell["source"]), f"{path.name}, cell {i}", "exec"), names)
    assert "accuracy: " in capsys.readouterr().out
    assert names["prediction"].label == "rising"
    for row in names["heard"]:
        assert np.sum(row) == pytest.approx(1, abs=1e-5)
    assert plt.get_fignums()
    plt.close("all")
