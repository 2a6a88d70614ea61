"""Text of clips, recordings and live sound, with the times of words."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest

from gru_audio.inference.transcriber import Transcriber, beam_search, read_language_model
from gru_audio.inference.transcripts import Transcripts
from gru_audio.settings import UserError
from gru_audio.text.ngram import count, write_arpa
from tests.spelled import GAP, LETTER, SPACE, config, spoken
from tests.tones import RATE
from tests.trained import train

TEXTS = ["AB CA", "BCA", "A B AB", "CA CA"]


@pytest.fixture(scope="module")
def sounds():
    rng = np.random.default_rng(7)
    return [spoken(text, rng) for text in TEXTS]


@pytest.fixture(scope="module")
def recording(sounds):
    """The texts with a second of noise after each."""
    rng = np.random.default_rng(8)
    pause = np.rint(300 * rng.standard_normal(RATE)).astype(np.int16)
    return np.concatenate([part for sound in sounds for part in (sound, pause)])


def predictor(trained, as_json=False, **changes):
    options = dict(beam=None, lm=None, lm_weight=0.5, word_bonus=1.0, lexicon=False)
    return Transcripts(trained, as_json, **{**options, **changes})


def blocks(sound, size=333):
    return (sound[i : i + size] for i in range(0, len(sound), size))


def lines(capsys):
    return capsys.readouterr().out.splitlines()


def objects(capsys):
    return [json.loads(line) for line in lines(capsys)]


def test_clips_are_lines_of_text(speller, sounds, capsys):
    predictor(speller).clips(zip("abcd", sounds, strict=True))
    assert lines(capsys) == [f"{n}\t{text}" for n, text in zip("abcd", TEXTS, strict=True)]


@pytest.mark.parametrize("beam", [None, 8])
def test_words_have_times(speller, sounds, capsys, beam):
    predictor(speller, True, beam=beam, lexicon=beam is not None).clips([("a", sounds[0])])
    (found,) = objects(capsys)
    assert (found["file"], found["text"]) == ("a", "AB CA")
    assert [word["word"] for word in found["words"]] == ["AB", "CA"]
    letters = [2 * (LETTER + GAP), SPACE + GAP, 2 * (LETTER + GAP)]
    _, first_end, second, end = np.cumsum([0.06, *letters])  # about; a causal model is later
    one, other = found["words"]
    assert 0 <= one["start"] < one["end"] < first_end + 0.15
    assert second - 0.05 < other["start"] < other["end"] < end + 0.15


def test_words_may_be_tokens(speller):
    words = Transcriber(speller)
    words.__dict__["tokens"] = replace(words.tokens, names=("NO", "YES"), are_words=True)
    log_probs = np.log(np.full((7, 3), 0.05) + 0.9 * np.eye(3)[[0, 2, 2, 0, 2, 1, 0]])
    found = words.transcript(log_probs, first=10)
    assert found.text == "YES YES NO"
    step = words.times.step
    starts = [word.start for word in found.words]
    np.testing.assert_allclose(np.diff(starts) / step, [3, 1])
    assert found.words[0].end - found.words[0].start == pytest.approx(2 * step)


def test_the_frames_of_a_recording_are_those_of_the_whole(speller, recording):
    made = predictor(speller)
    stitched = np.concatenate([*made._frames(blocks(recording))])
    (whole,) = Transcriber(speller).log_probs([recording])
    assert stitched.shape == whole.shape
    assert (stitched.argmax(1) == whole.argmax(1)).mean() > 0.95
    short = recording[: RATE // 3]
    (alone,) = Transcriber(speller).log_probs([short])
    np.testing.assert_allclose(np.concatenate([*made._frames(blocks(short))]), alone, atol=1e-4)


@pytest.mark.parametrize("beam", [None, 4])
def test_a_recording_has_a_line_for_each_sentence(speller, recording, capsys, beam):
    predictor(speller, True, beam=beam).recording("long.wav", blocks(recording))
    found = objects(capsys)
    assert [each["text"] for each in found] == TEXTS
    assert {each["file"] for each in found} == {"long.wav"}
    for one, other in itertools.pairwise(found):
        assert one["start"] < one["end"] < other["start"] - 0.5
    predictor(speller).recording("long.wav", blocks(recording))
    shown = lines(capsys)
    assert shown[:2] == ["long.wav", "      start         end  text"]
    assert [line[25:] for line in shown[2:]] == TEXTS


def test_sound_without_a_pause_is_cut_before_it_fills_the_memory(speller, capsys):
    made = predictor(speller, True)
    sound = np.concatenate([spoken("A", np.random.default_rng(i)) for i in range(60)])
    parts = [len(log_probs) for _, log_probs in made._sentences(made._frames(blocks(sound)))]
    limit = 4 * made.limit / made._step
    assert len(parts) > 1 and max(parts) <= limit + made.limit / made._step


def test_live_sound_has_partial_and_final_text(speller, recording, capsys):
    predictor(speller, True).live(blocks(recording))
    found = objects(capsys)
    final = [each["text"] for each in found if not each.get("partial")]
    assert final == TEXTS
    partial = [each["text"] for each in found if each.get("partial")]
    assert any(text and TEXTS[0].startswith(text) for text in partial)
    predictor(speller).live(blocks(recording[: len(recording) - RATE]))  # it ends without a pause
    captured = capsys.readouterr()
    assert [line[25:] for line in captured.out.splitlines()] == TEXTS
    assert captured.err.endswith("heard\n")


def test_a_bidirectional_model_transcribes_no_live_sound(spelled_source):
    both = train(spelled_source, config(**{"model.bidirectional": True}), 1)
    with pytest.raises(
        UserError, match=r"cannot transcribe live sound: .* config\.model\.bidirectional=False\."
    ):
        predictor(both).live(iter(()))


def test_silence_is_no_text(speller, capsys):
    silence = np.zeros(9 * RATE, np.int16)
    predictor(speller).live(blocks(silence, 4000))
    predictor(speller, True).recording("silence", blocks(silence, 4000))
    predictor(speller, True).recording("nothing", iter(()))
    assert lines(capsys) == []


def test_a_language_model_decides_between_words(speller, sounds, tmp_path, capsys):
    arpa = tmp_path / "words.arpa"
    write_arpa(arpa, count(["BCA AB"] * 50))
    options = {"beam": 16, "lm": str(arpa), "lm_weight": 5.0, "lexicon": True}
    predictor(speller, **options).clips([("a", sounds[3])])
    assert lines(capsys) != ["a\tCA CA"]
    with pytest.raises(UserError, match="add --beam 16"):
        predictor(speller, lm=str(arpa))


def test_words_that_the_model_cannot_output_are_named(speller, tmp_path, capsys):
    arpa = tmp_path / "words.arpa"
    write_arpa(arpa, count(["AB QA", "B"]))
    read_language_model(speller, str(arpa))
    warned = capsys.readouterr().err
    assert "1 of the 3 words of" in warned and "cannot output: Q" in warned
    write_arpa(arpa, count(["ab ca"]))
    with pytest.raises(UserError, match=r"2 of the 2 words .* cannot output: a b c"):
        read_language_model(speller, str(arpa))


def test_a_lexicon_needs_the_words_of_training(speller):
    assert beam_search(speller, 4, lexicon=True).lexicon == ("A", "AB", "B", "BCA", "CA")
    old = replace(speller, field=replace(speller.field, words=()))
    with pytest.raises(UserError, match="older version"):
        beam_search(old, 4, lexicon=True)
