"""TensorBoard reads the files of a run during training."""

import pytest
from etils import epath
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gru_audio.training.logging import TensorBoardWriter, write_events

FIRST = [
    {"run": "a", "step": 50, "train/loss": 2.5, "seconds": 1.0},
    {"run": "b", "step": 50, "train/loss": 7.5, "seconds": 1.0},
    {"run": "a", "step": 50, "validation/accuracy": 0.5, "seconds": 2.0},
]
SECOND = [
    {"run": "a", "step": 100, "train/loss": 1.25, "seconds": 3.0},
    {"run": "a", "step": 150, "train/loss": float("nan"), "seconds": 4.0},
    {"run": "a", "step": 150, "train/accuracy": None, "seconds": 4.0},
]


def of_a(records):
    return [record for record in records if record["run"] == "a"]


@pytest.fixture
def boards(tmp_path):
    return TensorBoardWriter({run: epath.Path(tmp_path) / run for run in "ab"})


@pytest.fixture
def board(tmp_path):
    """Returns what TensorBoard has read of run a so far."""
    return EventAccumulator(str(tmp_path / "a" / "tensorboard"))


def shown(board, name="train/loss"):
    board.Reload()
    return [(event.step, event.value, event.wall_time) for event in board.Scalars(name)]


def test_a_board_grows_while_it_is_read(boards, board):
    boards.add(FIRST)
    assert shown(board) == [(50, 2.5, 1.0)]
    boards.add(SECOND)
    assert shown(board) == [(50, 2.5, 1.0), (100, 1.25, 3.0)]
    assert shown(board, "validation/accuracy") == [(50, 0.5, 2.0)]
    assert sorted(board.Tags()["scalars"]) == ["train/loss", "validation/accuracy"]


def test_resumed_from_an_earlier_step_it_shows_no_later_one(boards, board, tmp_path):
    boards.add(FIRST + SECOND)
    boards.reset(FIRST)
    assert shown(board) == [(50, 2.5, 1.0)]
    boards.add(SECOND)
    assert [step for step, _, _ in shown(board)] == [50, 100]
    boards.reset(FIRST[1:2])
    assert not EventAccumulator(str(tmp_path / "a" / "tensorboard")).Reload().Tags()["scalars"]
    other = EventAccumulator(str(tmp_path / "b" / "tensorboard"))
    assert shown(other) == [(50, 7.5, 1.0)]


def test_a_whole_board_is_not_replaced_and_a_damaged_one_is(boards, board, tmp_path):
    boards.add(FIRST)
    boards.add(SECOND)
    (path,) = (tmp_path / "a" / "tensorboard").iterdir()
    inode = path.stat().st_ino
    write_events(epath.Path(tmp_path / "a"), of_a(FIRST + SECOND))
    assert path.stat().st_ino == inode
    path.write_bytes(path.read_bytes()[:-9])  # killed during a write
    write_events(epath.Path(tmp_path / "a"), of_a(FIRST + SECOND))
    assert shown(board) == [(50, 2.5, 1.0), (100, 1.25, 3.0)]


def test_an_unwritable_board_does_not_stop_training(boards, tmp_path):
    (tmp_path / "a").write_text("in the way")
    boards.add(FIRST)
    boards.reset([])
    assert (tmp_path / "b" / "tensorboard").is_dir()
