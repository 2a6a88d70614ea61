r"""Exports the model of a finished run to a format that other programs read.

  python -m gru_audio.export --workdir runs/one --format onnx --out one_onnx
  python -m gru_audio.export --workdir runs/spoken_digit --run GRU-seed0 --format stablehlo \
      --from sound --out digits
  python -m gru_audio.export --workdir runs/spoken_digit --run GRU-seed0 --format litert \
      --stream --out digits_on_a_phone

The folder --out gets four files: the model; model.json with inputs, outputs, labels and rates;
check.npz with an example of inputs and outputs; and model_card.md.

--format stablehlo runs wherever JAX runs, on CPU, GPU and TPU. onnx runs in ONNX Runtime and has
its recurrent nodes. litert is a step for phones. safetensors has the weights only, and torch has
them by the names of PyTorch.

--from sound: the file reads samples and contains the frontend. --from features: it reads the
frames of the frontend. --stream: it reads the next frames of a sequence, or the next --chunk_ms of
sound, and the state after those before. litert needs it. The model must not be bidirectional.

Each file is run before it is delivered. Its outputs may differ from those of the model by
--tolerance; otherwise it is named *.failed, and the exit code is 1. docs/export.md has the details.
"""

import sys
from collections.abc import Sequence

from absl import flags

from gru_audio import command
from gru_audio.exports import FORMATS, SOURCES
from gru_audio.paths import local_path
from gru_audio.settings import UserError, choose
from gru_audio.sweeps.layout import Layout

_WORKDIR = flags.DEFINE_string("workdir", None, "Where the run was trained.")
command.define_experiment()
_RUN = flags.DEFINE_string("run", None, "The run, if the workdir has several.")
_FORMAT = flags.DEFINE_string("format", None, f"One of {', '.join(FORMATS)}.", required=True)
_OUT = flags.DEFINE_string("out", None, "The folder that gets the files.", required=True)
_FROM = flags.DEFINE_enum("from", "features", SOURCES, "What the file reads.")
_STREAM = flags.DEFINE_bool("stream", False, "Read a chunk of a sequence, and a state.")
_CHUNK_MS = flags.DEFINE_float("chunk_ms", 20.0, "Chunks of a stream of sound.", 0.1, 60_000.0)
_TOLERANCE = flags.DEFINE_float(
    "tolerance",
    1e-5,
    "Largest difference of the outputs, relative to outputs above 1.",
)
flags.mark_flag_as_required("workdir")


def main(_: Sequence[str]) -> int:
    chosen = choose("--format", _FORMAT.value, FORMATS)
    if not 0 < _TOLERANCE.value < 1:
        raise UserError(f"--tolerance={_TOLERANCE.value} must be above 0 and below 1: pass 1e-5.")
    if chosen.step and not _STREAM.value:
        raise UserError(f"--format {_FORMAT.value} exports a step of a stream: pass --stream.")
    if chosen.weights and (_STREAM.value or _FROM.value != "features"):
        raise UserError(f"--format {_FORMAT.value} has only weights: omit --from and --stream.")
    out = local_path(command.output_folder("out", _OUT.value))
    workdir = Layout(_WORKDIR.value)
    directory = workdir.find_model(_RUN.value)
    chosen.load()

    # These imports take seconds: --help and errors in flags do not wait for them.
    from gru_audio.exports.delivery import Inexact, deliver
    from gru_audio.exports.function import make_function
    from gru_audio.inference.trained_model import TrainedModel, load_model
    from gru_audio.reports.scores import scores_of_run
    from gru_audio.sweeps.status import read_json, wrong_result
    from gru_audio.training.compilation import use_compilation_cache

    use_compilation_cache()
    trained, (_, description) = TrainedModel.load(directory), load_model(directory)
    run = trained.about["run"]
    result = read_json(workdir.run(run) / "result.json")
    if result is not None and wrong_result(result, run):
        result = None  # `sweep --status` tells what is wrong with it
    function = make_function(trained, _FROM.value, _STREAM.value, _CHUNK_MS.value)
    about = description, result, scores_of_run(workdir.root, run)
    try:
        file, largest = deliver(function, chosen, out, _TOLERANCE.value, *about)
    except Inexact as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{file}: largest difference {largest:.1e}")
    return 0


if __name__ == "__main__":
    command.run(main)
