"""Generates sound with a finished run, sample by sample, as WAV files.

  python -m gru_audio.generate --workdir runs/samplernn --run GRU-seed0 --seconds 2 --out sounds
  python -m gru_audio.generate --workdir DIR --condition digit=7 --count 8 --seed 1 --out sounds
  python -m gru_audio.generate --workdir DIR --prefix beginning.wav --temperature 0.9 --out sounds

The run must have config.task.name=generation. Sound i of a seed is DIR/SEED-I.wav, with 16 bits at
the model's rate. It depends on the seed and i only, not on --count. --temperature below 1 makes
probable samples more probable; at 1 the sounds are drawn from the model's distribution.

--condition FIELD=CLASS gives the class, for a model that was trained with config.data.target=FIELD.
--prefix FILE is continued: each sound is that file at the model's rate, then the new sound. It may
have any format and rate that `predict` reads. --experiment names the experiment file if it defines
components of the run, such as a model.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile
from absl import flags

from gru_audio import command
from gru_audio.paths import local_path
from gru_audio.settings import UserError
from gru_audio.sweeps.layout import Layout

if TYPE_CHECKING:
    from gru_audio.inference.trained_model import TrainedModel

_WORKDIR = flags.DEFINE_string("workdir", None, "The workdir in which the run was trained.")
command.define_experiment()
_RUN = flags.DEFINE_string("run", None, "The run, if the workdir has several.")
_OUT = flags.DEFINE_string("out", None, "The folder of the WAV files; it is made.")
_SECONDS = flags.DEFINE_float("seconds", 1.0, "Length of the new sound.")
_COUNT = flags.DEFINE_integer("count", 1, "Number of sounds.", lower_bound=1)
_TEMPERATURE = flags.DEFINE_float("temperature", 1.0, "Divides the logits; above 0.")
_SEED = flags.DEFINE_integer("seed", 0, "The seed of the random numbers.", lower_bound=0)
_CONDITION = flags.DEFINE_string("condition", None, "FIELD=CLASS, such as digit=7.")
_PREFIX = flags.DEFINE_string("prefix", None, "A sound file that is continued.")
for name in ("seconds", "temperature"):
    flags.register_validator(name, lambda value: value > 0, message="must be above 0.")
flags.register_validator(
    "condition",
    lambda value: value is None or "=" in value,
    message="must be FIELD=CLASS, such as digit=7.",
)


def main(arguments: Sequence[str]) -> int:
    del arguments
    if not _WORKDIR.value:
        raise UserError("Pass the workdir in which the run was trained: --workdir DIR.")
    if not _OUT.value:
        raise UserError("Pass the folder for the WAV files: --out DIR.")
    folder = local_path(command.output_folder("out", _OUT.value))
    if _PREFIX.value is not None and not local_path(_PREFIX.value).exists():
        raise UserError(f"--prefix={_PREFIX.value} does not exist.")
    model = Layout(_WORKDIR.value).find_model(_RUN.value)

    # These imports take seconds: --help does not wait for them.
    from gru_audio.inference.generator import Generator
    from gru_audio.inference.sounds import read_sounds
    from gru_audio.inference.trained_model import TrainedModel
    from gru_audio.training.compilation import use_compilation_cache

    use_compilation_cache()
    trained = TrainedModel.load(model)
    generator = Generator.of(trained)
    prefix = None
    if _PREFIX.value is not None:
        (prefix,) = read_sounds(_PREFIX.value, None, trained.signal, 1)
    progress = _Progress()
    sounds = generator.sounds(
        generator.samples(_SECONDS.value),
        _COUNT.value,
        conditions=_condition(trained),
        temperature=_TEMPERATURE.value,
        seed=_SEED.value,
        prefix=prefix,
        progress=progress,
    )
    progress.end(sounds.shape[0] * _SECONDS.value)
    folder.mkdir(parents=True, exist_ok=True)
    for i, sound in enumerate(sounds):
        _write(folder / f"{_SEED.value}-{i}.wav", sound, trained.signal.rate)
    return 0


def _condition(trained: "TrainedModel") -> str | None:
    """Returns the class that --condition names; None without the flag."""
    if _CONDITION.value is None:
        return None
    name, equals, value = _CONDITION.value.partition("=")
    target = trained.config.data.target
    if not equals or (target and name != target):
        raise UserError(f'--condition="{_CONDITION.value}": pass {target or "FIELD"}=CLASS.')
    return value


def _write(path: Path, sound: np.ndarray, rate: int) -> None:
    with path.open("wb") as file:
        soundfile.write(file, sound, rate, format="WAV", subtype="PCM_16")
    print(path)


class _Progress:
    """Prints the share that is done and the time left on a terminal, one line over another."""

    def __init__(self) -> None:
        self.start = time.perf_counter()
        self.shown = sys.stderr.isatty()

    def __call__(self, done: int, total: int) -> None:
        if self.shown:
            left = (time.perf_counter() - self.start) * (total - done) / done
            print(f"\r{done / total:4.0%}, {left:.0f} s left ", end="", file=sys.stderr, flush=True)

    def end(self, seconds: float) -> None:
        """Prints how long `seconds` of sound took."""
        taken = time.perf_counter() - self.start
        end = "\r" if self.shown else ""
        about = f"{seconds:.1f} s of sound in {taken:.1f} s, compilation included"
        print(f"{end}{about}", file=sys.stderr)


if __name__ == "__main__":
    command.run(main)
