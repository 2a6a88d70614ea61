"""The command that keeps the results of a sweep and writes the tables."""

import shutil

import pytest
from etils import epath

from experiments.tables.readme import write_readme
from gru_audio.settings import UserError
from tests.commands import ROOT, run_module
from tests.reports.workdirs import Made, write_workdir

PAPER = '''"""A paper about digits.

  python -m gru_audio.sweep --config experiments/made_up.py --workdir runs/made_up
"""

PUBLISHED = dict(
    source="A paper, Table 1",
    measure="accuracy",
    values={"": {"gru": 0.99, "rnn": 0.5, "none": 0.1}},
)
'''


def test_the_command_keeps_results_and_writes_tables(tmp_path, environment):
    workdir, folder = write_workdir(tmp_path / "run", Made()), tmp_path / "experiments"
    folder.mkdir()
    (folder / "made_up.py").write_text(PAPER)
    (folder / "other.py").write_text("")
    ended = run_module(
        environment, "experiments.tables", f"--keep={workdir}", f"--experiments={folder}"
    )
    names = ("made_up.csv", "made_up.curves.csv", "made_up.pairs.csv")
    assert sorted(path.name for path in (folder / "results").iterdir()) == list(names)
    assert all(str(folder / "results" / name) in ended.stdout for name in names)
    text = (folder / "README.md").read_text()
    assert "[made_up.py](made_up.py): A paper about digits." in text and "other.py" not in text
    assert "| gru | 99" in text and "| none | 10" in text and "| not run |" in text

    (folder / "made_up.py").write_text('"""Digits, beside nobody\'s."""')
    write_readme(epath.Path(folder), epath.Path(folder / "results"))
    text = (folder / "README.md").read_text()
    assert "There are no published values" in text and "other.py" not in text
    section = text.partition("## made_up")[2]
    assert "| gru | " in section and "| published |" not in section


def test_the_committed_tables_are_those_of_the_committed_results(tmp_path):
    shutil.copytree(ROOT / "experiments", tmp_path, dirs_exist_ok=True)
    write_readme(epath.Path(tmp_path), epath.Path(tmp_path / "results"))
    before = (ROOT / "experiments" / "README.md").read_text()
    written = (tmp_path / "README.md").read_text()
    assert written == before, "Write it again: python -m experiments.tables"


def test_a_folder_without_experiments_is_refused(tmp_path):
    with pytest.raises(UserError, match="There is no experiment in"):
        write_readme(epath.Path(tmp_path), epath.Path(tmp_path))
