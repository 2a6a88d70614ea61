"""Compiles the programs of every experiment for TPUs that are not here, by `sweep --plan`.

Usage:
  python -m tests.accelerators                          all experiments, for v5e:2x2
  python -m tests.accelerators --topology v6e:2x2 esc10 yesno
  python -m tests.accelerators --topology h100:8        lowered for GPUs

TPUs need their compiler: pip install -e '.[aot]'. The data sets are stand-ins of noise, with the
fields of the real ones and short clips, since the length of a loop does not matter to a compiler.
So memory and times are not those of the real data. A program that has been compiled is not compiled
again. The exit code is 1 if a program fails or does not fit.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter
from etils import epath
from tensorflow_datasets.proto import tf_example_pb2

from gru_audio.command import name_with_part
from gru_audio.data import index
from gru_audio.data.fields import (
    ClassField,
    Event,
    EventsField,
    Field,
    TagsField,
    TextField,
    describe,
)
from gru_audio.data.signal import Signal, frames
from tests.golden_configs import EVENTS, FRAMES, ROOT, SOUNDS, SPOKEN, TAGGED, experiments

FOLDER = ROOT / "runs" / "accelerators"
SPLITS = ("train", "train", "train", "validation", "test")  # of successive clips
SECONDS = {"scenes": 12.0, "gtzan": 12.0, "birdsong": 2.0, "dcase2016_task2_remix": 12.0}
CLIPS = {"spoken_digit": 4200, "jsb_chorales": 400, "birdsong": 900}  # experiments draw from them
FIELDS = {  # names of classes that configs use, and fields that only folds use
    "spoken_digit": {"speaker": ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")},
    "speech_commands": {"speaker": tuple(map(str, range(9)))},
    "tts_digits": {"voice": tuple(map(str, range(9)))},
    "esc10": {"fold": tuple("12345")},
    "esc50": {"fold": tuple("12345")},
    "esc50_logmel": {"fold": tuple("12345")},
}
SILENCE = {"speech_commands": "_silence_"}  # the last class
SOURCES = {"fine_tuning-digits": "fine_tuning-commands"}  # whose trained models a part begins with


def write_stand_in(folder: Path, name: str) -> None:
    """Writes a prepared data set of noise."""
    number, classes = {**SOUNDS, **FRAMES}[name]
    signal = frames(number, "float32") if name in FRAMES else Signal(number)
    names = {field: tuple(f"class {i}" for i in range(n)) for field, n in classes.items()}
    if name in SILENCE:
        names["command"] = (*names["command"][:-1], SILENCE[name])
    kind = TagsField if name in TAGGED else ClassField
    fields: dict[str, Field] = {k: kind(v) for k, v in (names | FIELDS.get(name, {})).items()}
    if name in SPOKEN:
        fields["text"] = TextField(" ENOSY", ("NO", "YES"))
    if name in EVENTS:
        fields["events"] = EventsField(tuple(f"class {i}" for i in range(EVENTS[name])))
    clips, rng = CLIPS.get(name, 200), np.random.default_rng(0)
    longest = round(SECONDS.get(name, 1.0) * number) if signal.is_sound else 200
    lengths = rng.integers(longest // 2, longest + 1, clips).astype(np.int32)
    path = folder / name / "1.0.0"
    path.mkdir(parents=True)
    writer = ArrayRecordWriter(str(path / "clips.array_record"), "group_size:1")
    for length in lengths:
        values = rng.normal(0, 1000 if signal.is_sound else 1, (length, *signal.shape))
        example = tf_example_pb2.Example()
        stored = example.features.feature[signal.feature].bytes_list.value
        stored.append(values.astype(signal.dtype).tobytes())
        writer.write(example.SerializeToString())
    writer.close()
    description = {
        "name": name,
        "sample_rate": signal.rate,
        "fields": {field: describe(of) for field, of in fields.items()},
        "records": [("clips.array_record", clips)],
        "fingerprint": name,
    }
    if not signal.is_sound:
        shape = {"dtype": signal.dtype, "shape": signal.shape, "block": signal.block}
        description["signal"] = shape
    columns = {"split": np.resize(SPLITS, clips), "length": lengths}
    columns["clip"] = np.array([f"clip {i}" for i in range(clips)])
    columns |= {
        name: field.arrays([value(field, i) for i in range(clips)])
        for name, field in fields.items()
    }
    index.write(epath.Path(path), description, columns)


def value(field: Field, i: int):
    """The value of clip `i`."""
    if isinstance(field, TextField):
        return "NO YES"
    name = field.names[(i // len(SPLITS)) % len(field.names)]
    if isinstance(field, EventsField):
        return (Event(0.0, 0.1, name),)
    return frozenset([name]) if isinstance(field, TagsField) else name


def parts(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """FILE:PART and the data set of experiments with a sweep, by name. `names`: these; (): all."""
    found = {}
    for name, module in experiments().items():
        for part in getattr(module, "PARTS", ("",)) if hasattr(module, "get_sweep") else ():
            file, own = ROOT / "experiments" / f"{name}.py", [part] if part else []
            data_set = module.get_config(*own).data.name
            found[name_with_part(name, part)] = ":".join([str(file), *own]), data_set
    return {k: v for k, v in found.items() if not names or k in names or k.split("-")[0] in names}


def sweep(folder: Path, config: str, workdir: str, *flags: str) -> int:
    """Runs the command in the folder. Returns its exit code; its output is in a log file."""
    environment = os.environ | {"GRU_AUDIO_DATA": str(folder / "data"), "JAX_PLATFORMS": "cpu"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
    command = [sys.executable, "-m", "gru_audio.sweep", f"--config={config}", *flags]
    with (folder / f"{workdir.rpartition('/')[2]}.log").open("w") as file:
        return subprocess.run(
            [*command, f"--workdir={workdir}"],
            cwd=folder,
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
        ).returncode


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--topology", default="v5e:2x2")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="keeps data, plans and logs")
    parser.add_argument("names", nargs="*", help="experiments or their parts; default: all")
    options = parser.parse_args(arguments)
    folder, topology = options.folder.resolve(), options.topology
    folder.mkdir(parents=True, exist_ok=True)
    failed, began = [], time.monotonic()
    print(f"{'experiment':32} programs  compile s  MiB a chip")
    for name, (config, data_set) in parts(options.names).items():
        if not index.versions(folder / "data", data_set):
            write_stand_in(folder / "data", data_set)
        if source := SOURCES.get(name):
            file, part = config.partition(":")[0], source.partition("-")[2]
            sweep(folder, f"{file}:{part}", f"runs/{source}", "--config.train.steps=1")
        code = sweep(folder, config, f"plans/{name}", "--plan", f"--topology={topology}")
        plan = folder / "plans" / name / "plans" / f"{topology.replace(':', '-')}.json"
        found = list(json.loads(plan.read_text()).values()) if plan.exists() else []
        seconds = sum(program["compile_seconds"] for program in found)
        memory = [program["memory_bytes"] / 2**20 for program in found if program["memory_bytes"]]
        most = f"{max(memory):,.0f}" if memory else "?"
        failure = f"  FAILED: {folder / name}.log" if code else ""
        print(f"{name:32} {len(found):8}  {seconds:9.0f}  {most:>10}{failure}", flush=True)
        failed += [name] * bool(code)
    print(f"{time.monotonic() - began:.0f} s; failed: {', '.join(failed) or 'none'}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
