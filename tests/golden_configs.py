"""Every experiment's config and runs as text, so that a changed default shows in review.

Usage:
  python -m tests.golden_configs           which experiments differ from what is recorded
  python -m tests.golden_configs --write   records them again, in tests/golden
"""

import atexit
import contextlib
import functools
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
from etils import epath

from gru_audio.audio.frontends import FRONTENDS
from gru_audio.command import add_components, load_experiment, name_with_part, sweep_of
from gru_audio.config import check, differences, flatten
from gru_audio.data import index
from gru_audio.data.fields import (
    ClassField,
    EventsField,
    Field,
    TagsField,
    TextField,
    describe,
)
from gru_audio.nn.cells import CELLS
from gru_audio.nn.models import MODELS
from gru_audio.nn.pooling import POOLINGS
from gru_audio.sweeps.sweep import expand, group
from gru_audio.tasks import TASKS
from gru_audio.tasks.metrics import METRICS
from gru_audio.training.trackers import TRACKERS

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "tests" / "golden"

# The data sets that experiments name: their rate, or values in a frame; classes of each field.
SOUNDS = {
    "spoken_digit": (8000, {"digit": 10, "speaker": 6}),
    "tts_digits": (16000, {"digit": 10}),
    "speech_commands": (16000, {"command": 12}),
    "esc10": (16000, {"label": 10}),
    "esc50": (16000, {"label": 50}),
    "gtzan": (22050, {"label": 10}),
    "scenes": (16000, {"label": 19}),
    "chime_home": (16000, {"label": 7}),
    "my_sounds": (16000, {"label": 2}),
    "bird0_songs": (32000, {}),
    "birdsong": (16000, {}),
    "bach_violin": (16000, {"pitch": 33, "recording": 9}),
    "an4": (16000, {"speaker": 84}),
    "yesno": (8000, {}),
    "dcase2016_task2_remix": (16000, {}),
}
EVENTS = {"birdsong": 9, "dcase2016_task2_remix": 11}  # number of classes
TAGGED = ("chime_home",)
SPOKEN = ("an4", "an4_mfcc", "yesno")  # with a text
FRAMES = {
    "esc50_logmel": (64, {"label": 50}),
    "vntm": (64, {"label": 5}),
    "gtzan_10s": (63, {"label": 10}),
    **dict.fromkeys(("jsb_chorales", "nottingham", "muse_data", "piano_midi"), (88, {})),
    **{f"adding_{steps}": (2, {}) for steps in (200, 400, 600)},
    **{f"copy_memory_{blanks}": (1, {}) for blanks in (500, 1000, 2000)},
    "counting": (2, {}),
    "an4_mfcc": (13, {"speaker": 84}),
}


@functools.cache
def empty_data_sets() -> str:
    """A folder where those data sets are prepared, of no clips."""
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder)
    for name, (number, fields) in {**SOUNDS, **FRAMES}.items():
        signal = {"shape": [number], "dtype": "float32"} if name in FRAMES else {}
        kind = TagsField if name in TAGGED else ClassField
        kinds: dict[str, Field] = {
            field: kind(tuple(f"class {i}" for i in range(n))) for field, n in fields.items()
        }
        if name in SPOKEN:
            kinds["text"] = TextField(" ENOSY", ("NO", "YES"))
        if name in EVENTS:
            kinds["events"] = EventsField(tuple(f"class {i}" for i in range(EVENTS[name])))
        description = {
            "name": name,
            "sample_rate": 1 if name in FRAMES else number,
            "signal": signal,
            "fields": {field: describe(of) for field, of in kinds.items()},
            "records": [],
            "fingerprint": "",
        }
        columns = {"split": np.array([], str), "clip": np.array([], str)}
        columns |= {"length": np.array([], np.int32)}
        columns |= {field: of.arrays([]) for field, of in kinds.items()}
        (path := epath.Path(folder) / name / "1.0.0").mkdir(parents=True)
        index.write(path, description, columns)
    return folder


def experiments() -> dict[str, ModuleType]:
    """The experiments by name: every file of the folder that has a config."""
    found = {}
    for path in sorted((ROOT / "experiments").glob("*.py")):
        module = load_experiment(path, extend=False)
        if hasattr(module, "get_config"):
            found[path.stem] = module
    return found


def parts() -> dict[str, tuple[ModuleType, list[str]]]:
    """The parts of all experiments by name, and what `get_config` takes to make each."""
    found = {}
    for name, module in experiments().items():
        for part in getattr(module, "PARTS", ("",)):
            found[name_with_part(name, part)] = module, [part] if part else []
    return found


@contextlib.contextmanager
def package_tables() -> Iterator[None]:
    """Takes out of the tables of the package what experiments add to them meanwhile."""
    tables: list[dict] = [CELLS, FRONTENDS, METRICS, MODELS, POOLINGS, TASKS, TRACKERS]
    before = [dict(table) for table in tables]
    try:
        yield
    finally:
        for table, entries in zip(tables, before, strict=True):
            table.clear()
            table.update(entries)


def golden(experiment: ModuleType, part: list[str]) -> str:
    """What the config changes of the defaults; then each program, and what its runs change."""
    with package_tables():
        add_components(str(experiment.__file__), experiment)
        return _golden(experiment, part)


def _golden(experiment: ModuleType, part: list[str]) -> str:
    config = experiment.get_config(*part)
    config.data.dir = empty_data_sets()
    check(config)
    base = differences(config)
    lines = [f"{name} = {json.dumps(value)}" for name, value in base.items()]
    if hasattr(experiment, "get_sweep"):
        groups = group(expand(config, sweep_of(experiment, config, *part)))
        for number, of_group in enumerate(groups, 1):
            lines += ["", f"program {number} of {len(groups)}"]
            for run in of_group.runs:
                check(run.config)
                of_run, flat = differences(run.config), flatten(run.config)
                now = of_run | {name: flat[name] for name in base if name in flat}
                changes = [
                    f"{k}={json.dumps(v)}" for k, v in sorted(now.items()) if base.get(k) != v
                ]
                lines.append(f"  {run.name}: {' '.join(changes) or 'as above'}")
    return "\n".join(lines) + "\n"


def recorded(name: str) -> str:
    """What is recorded of an experiment, "" for nothing."""
    path = GOLDEN / f"{name}.txt"
    return path.read_text() if path.exists() else ""


def main(write: bool) -> None:
    texts = {name: golden(*part) for name, part in parts().items()}
    for name, text in texts.items():
        if text != recorded(name):
            print(f"{'wrote' if write else 'differs:'} {name}")
            if write:
                GOLDEN.mkdir(exist_ok=True)
                (GOLDEN / f"{name}.txt").write_text(text)
    for path in GOLDEN.glob("*.txt"):
        if path.stem not in texts:
            print(f"{'removed' if write else 'no longer an experiment:'} {path.stem}")
            if write:
                path.unlink()


if __name__ == "__main__":
    main(write="--write" in sys.argv[1:])
