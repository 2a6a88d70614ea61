"""Every experiment's config and runs as text, so that a changed default shows in review.

Usage:
  python -m tests.golden_configs           which experiments differ from what is recorded
  python -m tests.golden_configs --write   records them anew, in tests/golden
"""

import json
import sys
from pathlib import Path
from types import ModuleType

from gru_audio.command import load_experiment, name_with_part
from gru_audio.config import check, differences, flatten
from gru_audio.sweeping.sweep import expand, group

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "tests" / "golden"


def experiments() -> dict[str, ModuleType]:
    """The experiments by name: every file of the folder that has a config."""
    found = {}
    for path in sorted((ROOT / "experiments").glob("*.py")):
        module = load_experiment(path)
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


def golden(experiment: ModuleType, part: list[str]) -> str:
    """What the config changes of the defaults; then each program, and what its runs change."""
    config = experiment.get_config(*part)
    check(config)
    base = differences(config)
    lines = [f"{name} = {json.dumps(value)}" for name, value in base.items()]
    if hasattr(experiment, "get_sweep"):
        groups = group(expand(config, experiment.get_sweep(config)))
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
