"""TensorBoard reads the files of a run during training."""

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata
from tensorboard.plugins.hparams.api_pb2 import Status

from gru_audio.training.trackers import Trackers
from gru_audio.training.trackers.tensorboard import TensorBoard
from tests.training.trackers.points import FIRST, NOW, SECOND, tracked

DONE = {"test/accuracy": 0.75}


@pytest.fixture
def said():
    return []


@pytest.fixture
def boards(tmp_path, said):
    return Trackers(("tensorboard",), tracked(tmp_path, "a", "b"), said.append)


@pytest.fixture
def board(tmp_path):
    """Returns what TensorBoard has read of run a so far."""
    return EventAccumulator(str(tmp_path / "a" / "tensorboard"))


def of_a(records):
    return [record for record in records if record["run"] == "a"]


def shown(board, name="train/loss"):
    board.Reload()
    return [(event.step, event.value, event.wall_time - NOW) for event in board.Scalars(name)]


def test_a_board_grows_while_it_is_read(boards, board):
    boards.add(FIRST)
    assert shown(board) == [(50, 2.5, 1.0)]
    boards.add(SECOND)
    assert shown(board) == [(50, 2.5, 1.0), (100, 1.25, 3.0)]
    boards.finish("a", of_a(FIRST + SECOND), DONE)
    assert shown(board) == [(50, 2.5, 1.0), (100, 1.25, 3.0)]
    assert shown(board, "validation/accuracy") == [(50, 0.5, 2.0)]
    assert shown(board, "test/accuracy") == [(150, 0.75, 4.0)]
    assert len(board.Tags()["scalars"]) == 3


@pytest.mark.parametrize(
    ("final", "status"), [(DONE, Status.STATUS_SUCCESS), (None, Status.STATUS_FAILURE)]
)
def test_it_shows_hyperparameters_and_how_the_run_ended(boards, board, final, status):
    boards.add(FIRST)
    boards.finish("a", of_a(FIRST), final)
    contents = board.Reload().PluginTagToContent("hparams")
    start = metadata.parse_session_start_info_plugin_data(contents[metadata.SESSION_START_INFO_TAG])
    assert start.hparams["variant"].string_value == "GRU"
    assert start.hparams["optimizer.learning_rate"].number_value == 0.01
    assert start.start_time_secs == NOW + 1
    end = metadata.parse_session_end_info_plugin_data(contents[metadata.SESSION_END_INFO_TAG])
    assert (end.status, end.end_time_secs) == (status, NOW + 2)


def test_resumed_from_an_earlier_step_it_shows_no_later_one(boards, board, tmp_path, said):
    boards.add(FIRST + SECOND)
    again = Trackers(("tensorboard",), tracked(tmp_path, "a", "b"), said.append)
    again.reset(FIRST)
    assert shown(board) == [(50, 2.5, 1.0)]
    again.add(SECOND)
    assert [step for step, _, _ in shown(board)] == [50, 100]
    again = Trackers(("tensorboard",), tracked(tmp_path, "a", "b"), said.append)
    again.reset(FIRST[1:2])
    assert not EventAccumulator(str(tmp_path / "a" / "tensorboard")).Reload().Tags()["scalars"]
    other = EventAccumulator(str(tmp_path / "b" / "tensorboard"))
    assert shown(other) == [(50, 7.5, 1.0)]


def test_a_whole_board_is_not_replaced_and_a_damaged_one_is(boards, board, tmp_path):
    boards.add(FIRST)
    boards.add(SECOND)
    boards.finish("a", of_a(FIRST + SECOND), DONE)
    (path,) = (tmp_path / "a" / "tensorboard").iterdir()
    inode = path.stat().st_ino
    TensorBoard(*tracked(tmp_path, "a")).finish(of_a(FIRST + SECOND), DONE)
    assert path.stat().st_ino == inode
    path.write_bytes(path.read_bytes()[:-9] + b"otherwise")  # damaged
    TensorBoard(*tracked(tmp_path, "a")).finish(of_a(FIRST + SECOND), DONE)
    assert shown(board) == [(50, 2.5, 1.0), (100, 1.25, 3.0)]


def test_an_unwritable_board_does_not_stop_training(boards, tmp_path, said, board):
    (tmp_path / "a").write_text("in the way")
    boards.add(FIRST)
    boards.reset([])
    assert (tmp_path / "b" / "tensorboard").is_dir()
    (line,) = said
    assert line.startswith("a: TensorBoard: ") and line.endswith("training goes on")
    (tmp_path / "a").unlink()
    boards.finish("a", of_a(FIRST), DONE)  # it is whole in the end
    assert shown(board) == [(50, 2.5, 1.0)]
