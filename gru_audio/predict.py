"""Labels or transcribes sound with a finished run: files, long recordings, and a microphone.

  python -m gru_audio.predict --workdir runs/one clip.wav folder_of_sounds
  python -m gru_audio.predict --workdir runs/spoken_digit --run GRU-seed0 --top_k 3 --json *.flac
  python -m gru_audio.predict --workdir runs/one --window 2 --hop 0.5 an_hour.flac
  python -m gru_audio.predict --workdir runs/birdsong --format audacity song.wav > song.txt
  python -m gru_audio.predict --workdir runs/one --live --threshold 0.8
  python -m gru_audio.predict --workdir runs/one --live --follow being_recorded.wav
  python -m gru_audio.predict --workdir runs/an4 --beam 16 --lm words.arpa *.wav
  arecord -t raw -f S16_LE -r 16000 | python -m gru_audio.predict --workdir runs/one --follow=-

The arguments are files (WAV, AIFF, AU, CAF, FLAC, OGG, Opus, MP3; any rate, any number of channels)
and folders. A folder stands for all its files except hidden ones, as in `prepare folder`. The
command needs only the model of the run, not the data set. A file that is no sound is reported and
skipped; the exit code is then 1.

A file that is not longer than the longest clip of the run's data set is a clip. It gets one row
with the labels that `evaluate` scores: of the whole clip, or of its middle if it is longer than
config.data.crop_seconds. A longer file is a recording. It is cut into windows of the longest length
that the model was trained on, one every --hop (by default half a window). Each stretch of one label
gets a row. Where two windows overlap, each labels its half. Each tag has its own stretches, which
may overlap those of others. --json prints every window. With --window SECONDS, files longer than
that are recordings, and shorter ones are labelled whole.

A model of sound events prints the onset, offset and class of each event: as a table with the
columns of the DCASE challenges or, with --format audacity, as a label track of one file. A longer
recording is cut into windows of the longest clip's length; each contributes the frames around its
middle. --threshold replaces the thresholds of the classes.

--live labels the sound of the microphone (extra [live]), one window every --hop, until Ctrl-C.
--follow FILE does the same with a WAV file that another program writes. --follow=- reads 16-bit
samples of one channel at --rate from standard input until they end. A model that is not
bidirectional computes while the sound arrives, in chunks of 20 ms, and events and text are printed
as soon as they are known; the command prints the latency. A bidirectional model computes each
window when it has ended. docs/streams.md has the details. --experiment names the experiment file if
it defines components of the run, such as a cell or a model.

A run with config.task.name=ctc gives text: the name of a clip and what is said in it, a line each.
Of recordings and live sound, each stretch between pauses gets a line with its times. --json adds
the times of words. --beam WIDTH searches instead of taking the best output of every frame, with the
language model --lm and its weights, which `evaluate --beam WIDTH --lm` prints, and --lexicon. Live
sound needs a model with config.model.bidirectional=False.
"""

import dataclasses
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from absl import flags

from gru_audio import command
from gru_audio.audio.containers import Unusable
from gru_audio.audio.io import BadAudio, convert, decode, decode_blocks, duration, sound_files
from gru_audio.audio.live import Sound, devices, growing_wav, microphone, raw_pcm
from gru_audio.events.formats import FORMATS
from gru_audio.paths import local_path
from gru_audio.settings import UserError
from gru_audio.sweeps.layout import Layout

if TYPE_CHECKING:
    from gru_audio.inference.predictor import Clip, Predictor
    from gru_audio.inference.trained_model import TrainedModel

_WORKDIR = flags.DEFINE_string("workdir", None, "The workdir in which the run was trained.")
command.define_experiment()
_RUN = flags.DEFINE_string("run", None, "The run, if the workdir has several.")
_TOP_K = flags.DEFINE_integer("top_k", 3, "Number of labels of a clip or window.", lower_bound=1)
_JSON = flags.DEFINE_bool("json", False, "Print a line of JSON for each file or window.")
_WINDOW = flags.DEFINE_float(
    "window", None, "Seconds per window; longer files are cut into windows of this length."
)
_HOP = flags.DEFINE_float("hop", None, "Seconds between the starts of two windows.")
_THRESHOLD = flags.DEFINE_float(
    "threshold",
    None,
    "No label is given if the best is less probable. In recordings, a tag is given where it is at "
    "least as probable. Default for tags in recordings: 0.5.",
    0.0,
    1.0,
)
_LIVE = flags.DEFINE_bool("live", False, "Label the sound of the microphone.")
_DEVICE = flags.DEFINE_string("device", None, 'Microphone: number or name; "list" lists them.')
_FOLLOW = flags.DEFINE_string("follow", None, 'Label a growing WAV file; "-": raw samples.')
_RATE = flags.DEFINE_float("rate", None, "Hz of raw samples; by default the model's.")
_SMOOTH = flags.DEFINE_integer("smooth", 1, "Live: average over this many windows.", lower_bound=1)

_BEAM = flags.DEFINE_integer("beam", None, "Text: width of a beam search.", lower_bound=1)
_LM = flags.DEFINE_string("lm", None, "Text: an ARPA file with a language model of words.")
_LM_WEIGHT = flags.DEFINE_float("lm_weight", 0.5, "Text: weight of the language model.", 0.0)
_WORD_BONUS = flags.DEFINE_float("word_bonus", 1.0, "Text: bonus of each word, with --lm.")
_LEXICON = flags.DEFINE_bool("lexicon", False, "Text: only words of the training texts.")

_FORMAT = flags.DEFINE_enum("format", "dcase", FORMATS, "Events: format of the list.")

_OF_LABELS = (_TOP_K, _WINDOW, _HOP, _THRESHOLD, _SMOOTH)
_OF_TEXT = (_BEAM, _LM, _LM_WEIGHT, _WORD_BONUS, _LEXICON)
_OPTIONS = (*_OF_LABELS, *_OF_TEXT, _FORMAT)  # each is an attribute of some predictor
_ROUNDING = 1  # samples by which resampling may round a length


def main(arguments: Sequence[str]) -> int:
    if _DEVICE.value == "list":
        print(devices())
        return 0
    if not _WORKDIR.value:
        raise UserError("Pass the workdir in which the run was trained: --workdir DIR.")
    live = _LIVE.value or _FOLLOW.value
    if live and len(arguments) > 1:
        raise UserError(f"{arguments[1]} is a file, but --live and --follow take no files.")
    files = [] if live else _files(arguments[1:])
    folder = Layout(_WORKDIR.value).find_model(_RUN.value)

    # These imports take seconds: --help and errors in the arguments do not wait for them.
    from gru_audio.inference.trained_model import TrainedModel
    from gru_audio.training.compilation import use_compilation_cache

    use_compilation_cache()
    trained = TrainedModel.load(folder)
    predictor, rate = _predictor(trained), trained.signal.rate
    if live:
        predictor.live(_converted(_sound(rate), rate))
        return 0

    if predictor.single and len(files) > 1:
        raise UserError(f"--format={_FORMAT.value} is for one file, not {len(files)}.")
    clips, recordings, bad = _by_length(files, predictor.limit, rate)
    predictor.clips(_decoded(clips, rate, bad))
    for path in recordings:
        try:
            predictor.recording(str(path), decode_blocks(path, rate))
        except BrokenPipeError:
            raise  # standard output is closed
        except (BadAudio, OSError) as error:
            bad.append(f"the rest of {error}")
    for problem in bad:
        print(f"skipped {problem}", file=sys.stderr)
    return 1 if bad else 0


def _predictor(trained: "TrainedModel") -> "Predictor":
    """Makes the predictor of the model's task from the flags."""
    from gru_audio.inference.predictors import PREDICTORS

    run, task = trained.about["run"], trained.program().task
    if task.predicts not in PREDICTORS:
        raise UserError(
            f"{run} predicts no {', '.join(PREDICTORS)}: "
            f"config.task.name={trained.config.task.name}. `evaluate` scores it."
        )
    if not trained.signal.is_sound:
        raise UserError(
            f"{run} was trained on {trained.signal.feature}, not on sound. `evaluate` scores it."
        )
    kind = PREDICTORS[task.predicts]
    attributes = {attribute.name for attribute in dataclasses.fields(kind)}
    for flag in _OPTIONS:
        if flag.name not in attributes and flags.FLAGS[flag.name].present:
            raise UserError(f"--{flag.name} does not apply: {run} predicts {task.predicts}.")
    options = {flag.name: flag.value for flag in _OPTIONS if flag.name in attributes}
    return kind(trained, _JSON.value, **options)


def _files(arguments: Sequence[str]) -> list[Path]:
    """Returns the files among the arguments, and the files in the folders."""
    if not arguments:
        raise UserError("Pass the files or folders of sound.")
    files: list[Path] = []
    for argument in arguments:
        path = local_path(argument)
        if path.is_dir():
            files += sorted(sound_files(path))
        elif os.path.lexists(path):
            files.append(path)
        else:
            raise UserError(f"{path} does not exist.")
    if not files:
        raise UserError(f"No files in {', '.join(arguments)}.")
    return files


def _by_length(
    files: Sequence[Path], limit: int, rate: int
) -> tuple[list[Path], list[Path], list[str]]:
    """Returns files of at most `limit` samples at `rate`, longer files, and errors as text."""
    clips: list[Path] = []
    recordings: list[Path] = []
    bad = []
    for path in files:
        try:
            samples = duration(path) * rate
            (clips if samples <= limit + _ROUNDING else recordings).append(path)
        except (BadAudio, OSError) as error:
            bad.append(str(error))
    return clips, recordings, bad


def _decoded(paths: Sequence[Path], rate: int, bad: list[str]) -> Iterator["Clip"]:
    """Yields the clips that can be decoded; adds the errors of the others to `bad`."""
    for path in paths:
        try:
            yield str(path), decode(path, rate).samples
        except (BadAudio, OSError) as error:
            bad.append(str(error))


def _sound(rate: int) -> Sound:
    if _FOLLOW.value is None:
        return microphone(_DEVICE.value)
    if _FOLLOW.value == "-":
        return raw_pcm(sys.stdin.buffer, rate if _RATE.value is None else _RATE.value)
    return growing_wav(local_path(_FOLLOW.value))


def _converted(sound: Sound, rate: int) -> Iterator[np.ndarray]:
    try:
        yield from convert(sound.blocks, sound.rate, rate)
    except Unusable as error:
        raise UserError(f"The sound cannot be used: {error.reason}.") from error


if __name__ == "__main__":
    command.run(main, names=True)
