"""Piano rolls equal the published files and reproduce published baselines."""

from pathlib import Path

import jax
import numpy as np
import pytest
import scipy.io
from scipy.special import logit

from gru_audio.data.datasets.polyphonic_music import KEYS
from gru_audio.data.source import Source, open_source
from gru_audio.prepare import prepare
from gru_audio.settings import UserError
from gru_audio.tasks.next_step import NextStep
from tests import sounds
from tests.rolls import SPLITS, made_rolls, write_rolls


def prepare_file(path: Path) -> Source:
    """A file that is not the published one."""
    prepare("jsb_chorales", path.parent / "data", archive=str(path), verify=False)
    return open_source("jsb_chorales", path.parent / "data")


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "rolls.mat"
    write_rolls(path, made_rolls())
    return path


@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_rolls_come_back_as_they_were(tmp_path, dtype):
    rolls = made_rolls()
    write_rolls(
        tmp_path / "rolls.mat", {s: [roll.astype(dtype) for roll in r] for s, r in rolls.items()}
    )
    source = prepare_file(tmp_path / "rolls.mat")
    assert source.signal.dtype == "uint8"
    assert source.signal.shape == (KEYS,)
    assert not source.fields
    assert source.splits() == tuple(SPLITS)
    whole = [roll for of_split in rolls.values() for roll in of_split]
    assert source.columns["length"].tolist() == [len(roll) for roll in whole]
    for ids in (range(len(whole)), [3, 0, 40]):
        for found, i in zip(source.signals(ids), ids, strict=True):
            assert found.dtype == np.uint8
            np.testing.assert_array_equal(found, whole[i])


def test_one_note_more_is_another_data_set(file, tmp_path):
    before = prepare_file(file).fingerprint
    rolls = made_rolls()
    rolls["test"][1][3, 40] ^= 1
    write_rolls(tmp_path / "rolls.mat", rolls)
    prepare("jsb_chorales", tmp_path / "again", archive=str(file), verify=False)
    assert open_source("jsb_chorales", tmp_path / "again").fingerprint != before


@pytest.mark.parametrize("compress", [False, True])
def test_a_cut_off_file_is_refused_wherever_it_is_cut(tmp_path, compress):
    path = tmp_path / "rolls.mat"
    write_rolls(path, made_rolls(), compress)
    content = path.read_bytes()
    for end in (0, 3, 100, 128, 140, len(content) // 2, len(content) - 100, len(content) - 1):
        path.write_bytes(content[:end])
        with pytest.raises(UserError, match="is not a file of piano rolls, or is damaged"):
            prepare_file(path)


def test_a_damaged_file_is_refused(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 255
    file.write_bytes(content)
    with pytest.raises(UserError, match="is not a file of piano rolls, or is damaged"):
        prepare_file(file)


@pytest.mark.parametrize("content", [b"no MATLAB file at all" * 20, sounds.encode(sounds.tone())])
def test_another_file_is_refused(tmp_path, content):
    (tmp_path / "rolls.mat").write_bytes(content)
    with pytest.raises(UserError, match=r"rolls\.mat is not a file of piano rolls"):
        prepare_file(tmp_path / "rolls.mat")


def test_matlab_files_of_other_things_are_refused(tmp_path):
    scipy.io.savemat(tmp_path / "rolls.mat", {"traindata": np.eye(3), "somedata": np.eye(3)})
    with pytest.raises(UserError, match="is not a file of piano rolls"):
        prepare_file(tmp_path / "rolls.mat")


@pytest.mark.parametrize(
    "roll",
    [
        np.full((4, KEYS), 2, np.uint8),
        np.full((4, KEYS), 0.5),
        np.full((4, KEYS), np.nan),
        np.zeros((4, KEYS - 1)),
        np.zeros((KEYS, 4)),
        np.zeros((0, KEYS)),
        np.full((4, KEYS), "x"),
    ],
    ids=["two", "half", "nan", "narrow", "turned", "empty", "text"],
)
def test_an_invalid_roll_is_named(tmp_path, roll):
    rolls = made_rolls()
    rolls["validation"][1] = roll
    write_rolls(tmp_path / "rolls.mat", rolls)
    with pytest.raises(UserError, match="roll 1 of validation is not 0 and 1 for 88 keys"):
        prepare_file(tmp_path / "rolls.mat")


def test_an_unpublished_file_needs_noverify(file, tmp_path):
    with pytest.raises(UserError, match=r"published JSB_Chorales\.mat.*pass --noverify"):
        prepare("jsb_chorales", tmp_path / "data", archive=str(file))
    assert "no, because nothing is published to compare with" in prepare(
        "jsb_chorales", tmp_path / "data", archive=str(file), verify=False
    )


def test_a_missing_file_is_named(tmp_path):
    for archive in (tmp_path, tmp_path / "JSB_Chorales.mat"):  # a folder, where it would lie
        with pytest.raises(UserError, match=r"/JSB_Chorales\.mat"):
            prepare("jsb_chorales", tmp_path / "data", archive=str(archive))


# The published files

BATCH, BLOCK = 16, 1024  # pieces; frames, to compile few shapes
ALMOST_NOTHING = 1e-3  # added to every count; a whole one gives 11.51 and 8.26 for two values below

PUBLISHED = {  # clips and frames by split, the longest clip; test losses of the two baselines
    "nottingham": ((694, 173, 170), (176_561, 45_513, 44_463), 1793, 10.26, 5.15),
    "jsb_chorales": ((229, 76, 77), (13_807, 4602, 4725), 160, 11.09, 10.49),
    "muse_data": ((524, 135, 124), (245_202, 82_755, 64_339), 4273, 11.52, 8.56),
    "piano_midi": ((87, 12, 25), (75_911, 8540, 19_036), 3857, 11.05, 8.27),
}


@pytest.fixture(scope="module", params=PUBLISHED)
def published(request, tmp_path_factory) -> Source:
    """Each of the four corpora, prepared from a folder of all files."""
    folder = sounds.archive("polyphonic-music/JSB_Chorales.mat").parent
    data_dir = tmp_path_factory.mktemp("data")
    assert "by sha256" in prepare(request.param, data_dir, archive=str(folder))
    return open_source(request.param, data_dir)


def rolls_of(source: Source, split: str) -> list[np.ndarray]:
    return source.signals(np.flatnonzero(source.columns["split"] == split))


def share(ones: np.ndarray, frames: np.ndarray | int) -> np.ndarray:
    """The probability of each key."""
    return (ones + ALMOST_NOTHING) / (frames + 2 * ALMOST_NOTHING)


def loss_of(pieces: list[np.ndarray], logits_of) -> float:
    """The task's loss on pieces in padded batches; the first frame is not predicted."""
    task = NextStep(KEYS, first_frame=False)

    @jax.jit
    def loss(features, frames):
        inputs, frames, targets, _ = task.inputs_and_targets(features, frames, frames)
        return [a.sum() for a in task.loss(logits_of(inputs), targets, frames)]

    sums, pieces = np.zeros(2), sorted(pieces, key=len)
    for begin in range(0, len(pieces), BATCH):
        of_batch = pieces[begin : begin + BATCH]
        frames = np.ones(BATCH, np.int32)  # what fills up the last batch has none to foretell
        frames[: len(of_batch)] = list(map(len, of_batch))
        features = np.zeros((BATCH, -(-frames.max() // BLOCK) * BLOCK, KEYS), np.float32)
        for row, piece in enumerate(of_batch):
            features[row, : len(piece)] = piece
        sums += [float(a) for a in loss(features, frames)]
    assert sums[1] == sum(len(piece) - 1 for piece in pieces)
    return sums[0] / sums[1]


def test_clips_and_frames_of_the_published_files(published):
    clips, frames, longest, *_ = PUBLISHED[published.name]
    split, length = published.columns["split"], published.columns["length"]
    assert tuple(np.sum(split == name) for name in SPLITS) == clips
    assert tuple(length[split == name].sum() for name in SPLITS) == frames
    assert length.max() == longest


def test_loss_of_key_frequencies_equals_the_published_one(published):
    """A trained model must have a lower loss."""
    train = np.concatenate(rolls_of(published, "train"))
    logits = logit(share(train.sum(axis=0), len(train))).astype(np.float32)
    loss = loss_of(
        rolls_of(published, "test"), lambda inputs: np.broadcast_to(logits, inputs.shape)
    )
    assert round(loss, 2) == PUBLISHED[published.name][3]


def test_loss_of_a_markov_chain_per_key_equals_the_published_one(published):
    """The prediction from the frame before; a shift by one frame would change the loss."""
    train = rolls_of(published, "train")
    before = np.concatenate([roll[:-1] for roll in train]).astype(np.int64)
    after = np.concatenate([roll[1:] for roll in train]).astype(np.int64)
    stays = logit(share((before * after).sum(axis=0), before.sum(axis=0)))
    begins = logit(share(((1 - before) * after).sum(axis=0), (1 - before).sum(axis=0)))
    stays, begins = stays.astype(np.float32), begins.astype(np.float32)
    loss = loss_of(
        rolls_of(published, "test"), lambda inputs: inputs * stays + (1 - inputs) * begins
    )
    assert round(loss, 2) == PUBLISHED[published.name][4]
