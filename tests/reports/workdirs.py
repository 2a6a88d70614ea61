"""Writes workdirs of simulated sweeps for the tests. The runs err like trained networks.

Whether a network errs on an example depends on how hard the example and its speaker are (shared by
all runs), on how well its seed went, and on chance. So variants are correlated example by example,
which is what a paired comparison lives on.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import sklearn.metrics

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True)
class Made:
    """A sweep to simulate.

    Attributes:
        variants: name -> skill (the mean margin of its logits).
        cost: name -> seconds of a training run; 40 where not given.
        trials: settings of each variant -> how much skill they cost.
        seeds: how many replicates, when there are no folds.
        folds: each fold is tested on one speaker of its own.
        speakers: in the test split; 0: unknown.
        class_names: () makes sequences without classes, of unequal weight.
        tags: whether the classes are tags; an example has its class and may have its rival.
    """

    variants: Mapping[str, float] = field(default_factory=lambda: {"gru": 5.2, "lstm": 4.6})
    cost: Mapping[str, float] = field(default_factory=dict)
    trials: Mapping[float, float] = field(default_factory=lambda: {0.003: 0.0})
    seeds: int = 5
    folds: int = 0
    speakers: int = 6
    examples: int = 300
    steps: int = 3000
    metric: str = "accuracy"
    class_names: tuple[str, ...] = DIGITS
    tags: bool = False


def write_workdir(workdir: Path, made: Made, seed: int = 0) -> Path:
    """Writes the finished sweep `made` and returns `workdir`."""
    rng = np.random.default_rng(seed)
    classes, many = len(made.class_names or DIGITS), made.examples
    speakers = made.folds or made.speakers
    speaker = np.arange(many) % speakers if speakers else np.full(many, -1)
    label = rng.permutation(many) % classes
    hardness = rng.gamma(1.3, 1.2, many) + 0.6 * rng.standard_normal(max(speakers, 1))[speaker]
    rival = (label + rng.choice([1, 4, 7], many, p=[0.6, 0.3, 0.1])) % classes
    weight = rng.integers(10, 100, many).astype(np.float32)
    luck = {r: 0.25 * rng.standard_normal() for r in range(made.folds or made.seeds)}

    entries = []
    for variant, skill in made.variants.items():
        for rate, loss_of_skill in made.trials.items():
            for index, replicate in enumerate(_replicates(made)):
                run = (
                    f"{variant}-{rate:g}-{index}" if len(made.trials) > 1 else f"{variant}-{index}"
                )
                entry = {
                    "run": run,
                    "variant": variant,
                    "trial": {"optimizer.learning_rate": rate} if len(made.trials) > 1 else {},
                    "replicate": replicate,
                    "group": f"{variant}-0",
                }
                entries.append(entry)
                tested = speaker == index if made.folds else np.ones(many, bool)
                margin = skill - loss_of_skill + luck[index] - hardness
                margin = margin + 0.9 * rng.standard_normal(many)
                predictions = _predictions(margin, label, rival, speaker, tested, classes, rng)
                if not made.class_names:
                    del predictions["label"], predictions["probabilities"]
                    predictions["weight"] = weight[tested]
                if made.tags:
                    both = np.eye(classes, dtype=np.uint8)[[label, rival]]
                    predictions["tags"] = (both[0] | both[1] * (rival % 2)[:, None])[tested]
                    del predictions["label"]
                _write_run(workdir / "runs" / run, entry, made, predictions, rate, rng)

    (workdir / "sweep.json").write_text(json.dumps(_sweep(made, entries, speakers)))
    return workdir


def fail(workdir: Path, run: str, *, has_predicted: bool = False) -> None:
    """Turns a finished run into a failed run, with or without predictions."""
    folder = workdir / "runs" / run
    (folder / "result.json").unlink()
    if not has_predicted:
        (folder / "predictions" / "test.npz").unlink()
    failure = {"type": "FloatingPointError", "error": "the loss is not finite at step 1250"}
    (folder / "failure.json").write_text(json.dumps(failure))


def interrupt(workdir: Path, run: str) -> None:
    """Turns a finished run into one that was killed while it wrote a line of its metrics."""
    folder = workdir / "runs" / run
    (folder / "result.json").unlink()
    (folder / "predictions" / "test.npz").unlink()
    text = (folder / "metrics.jsonl").read_text()
    (folder / "metrics.jsonl").write_text(text[: len(text) // 2])


def remove(workdir: Path, run: str) -> None:
    """Turns a finished run into one that has not started."""
    folder = workdir / "runs" / run
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()


def rewrite(workdir: Path, run: str, change: Callable[[dict], dict], *, metrics: bool) -> None:
    """Changes the predictions of a run, and optionally its metrics."""
    folder = workdir / "runs" / run
    with np.load(folder / "predictions" / "test.npz") as arrays:
        changed = change(dict(arrays))
    np.savez(folder / "predictions" / "test.npz", **changed)
    if metrics:
        result = json.loads((folder / "result.json").read_text())
        result["metrics"]["test"] = _metrics(changed)
        (folder / "result.json").write_text(json.dumps(result))


def _replicates(made: Made) -> list[dict[str, Any]]:
    if made.folds:
        return [{"data.hold_out": f"speaker=voice{fold}"} for fold in range(made.folds)]
    return [{"seed": seed} for seed in range(made.seeds)]


def _predictions(margin, label, rival, speaker, tested, classes, rng) -> dict[str, np.ndarray]:
    many = label.size
    logits = rng.standard_normal((many, classes)) - 2
    logits[np.arange(many), label] = np.maximum(margin, 0) + 0.1
    logits[np.arange(many), rival] = np.maximum(-margin, 0)
    probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    loss = -np.log(probabilities[np.arange(many), label])
    return {
        "example": np.flatnonzero(tested).astype(np.int32) + 2000,
        "label": label[tested].astype(np.int32),
        "probabilities": probabilities[tested].astype(np.float32),
        "loss": loss[tested].astype(np.float32),
        "cluster": speaker[tested].astype(np.int32),
    }


def _write_run(
    folder: Path, entry: dict[str, Any], made: Made, predictions: dict, rate: float, rng
) -> None:
    (folder / "predictions").mkdir(parents=True)
    np.savez(folder / "predictions" / "test.npz", **predictions)
    test = _metrics(predictions)
    seconds = made.cost.get(entry["variant"], 40.0) * rng.uniform(0.95, 1.05)
    steps = int(made.steps * rng.uniform(0.7, 1.0)) // 200 * 200

    config = {
        "seed": entry["replicate"].get("seed", 0),
        "data.name": "made_up",
        "model.cell": entry["variant"],
        "model.hidden": 96 if entry["variant"] == "gru" else 81,
        "optimizer.learning_rate": rate,
    }
    records = []
    for step in range(50, steps + 1, 50):
        decay = np.exp(-step / (0.12 * made.steps))
        noise = np.exp(0.15 * rng.standard_normal())
        train = (2.3 * decay + 0.004) * noise
        records.append({"step": step, "train/loss": train, "train/gradient_norm": noise})
        if step % 200 == 0:
            validation = {"validation/loss": test["loss"] + 2.2 * decay * noise}
            if "accuracy" in test:
                accuracy = test["accuracy"] - 0.9 * decay + 0.004 * rng.standard_normal()
                validation["validation/accuracy"] = float(np.clip(accuracy, 0.1, 1))
            records.append({"step": step, "seconds": seconds * step / steps, **validation})
    result = {
        **entry,
        "steps": steps,
        "best_step": steps - 400,
        "stopped_early": steps < made.steps,
        "parameters": {"total": 41_482, "recurrent": 40_512},
        "metrics": {"train": {"loss": 0.004}, "validation": test, "test": test},
        "seconds": seconds,
        "cpu_seconds": 1.5 * seconds,
        "steps_per_second": steps / seconds,
        "compile_seconds": 3.1,
        "members": made.folds or made.seeds,
        "flops_per_second": 23.4e9,
        "mfu": 0.18,
        "peak_memory_bytes": 612_000_000,
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (folder / "result.json").write_text(json.dumps(result))


def _metrics(predictions: dict[str, np.ndarray]) -> dict[str, float]:
    if "weight" in predictions:
        loss, weight = predictions["loss"].astype(np.float64), predictions["weight"]
        return {"loss": float((loss * weight).sum() / weight.sum())}
    loss = {"loss": float(predictions["loss"].mean())}
    if "tags" in predictions:
        columns = zip(predictions["tags"].T, predictions["probabilities"].T, strict=True)
        precision = [sklearn.metrics.average_precision_score(*column) for column in columns]
        return {"map": float(np.mean(precision)), **loss}
    correct = predictions["probabilities"].argmax(axis=1) == predictions["label"]
    return {"accuracy": float(correct.mean()), **loss}


def _task(made: Made) -> str:
    if not made.class_names:
        return "next_step"
    return "tagging" if made.tags else "classification"


def _sweep(made: Made, entries: list[dict[str, Any]], speakers: int) -> dict[str, Any]:
    command = "python -m gru_audio.sweep --config experiments/made_up.py --workdir runs/made_up"
    return {
        "experiment": "made_up",
        "description": f"Spoken digits, made up: GRU against LSTM.\n\n  {command}\n\nNot measured.",
        "command": command,
        "config": {
            "seed": 0,
            "data.name": "made_up",
            "data.target": "digit",
            "task.name": _task(made),
            "train.steps": made.steps,
        },
        "variants": {variant: {"model.cell": variant} for variant in made.variants},
        "trials": [{"optimizer.learning_rate": rate} for rate in made.trials],
        "replicates": _replicates(made),
        "halving": None,
        "metric": made.metric,
        "selection": "validation/loss",
        "target": "digit" if made.class_names else "",
        "cluster": "speaker" if speakers else None,
        "class_names": list(made.class_names),
        "cluster_names": [f"voice{i}" for i in range(speakers)] or None,
        "runs": entries,
        "environment": {
            "python": "3.11.7",
            "jax": "0.10.2",
            "flax": "0.12.7",
            "platform": "cpu",
            "device_kind": "cpu",
            "devices": 1,
            "commit": "0123456789abcdef0123456789abcdef01234567",
            "host_cores": 2,
        },
    }
