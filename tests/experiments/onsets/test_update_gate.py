"""The commands of experiments/update_gate.py and its analysis, on synthetic songs."""

import csv
import os
import subprocess
import sys

import numpy as np
import pytest

from experiments.tables.about_grus import CLAIMS
from tests import commands
from tests.sounds import encode

pytestmark = pytest.mark.reliability  # for their length

RATE, SECONDS = 16000, 1.2
SPLITS = ("train",) * 4 + ("validation",) * 2 + ("test",) * 2


def song(rng):
    """Returns five bursts of noise in quieter noise, and their onsets in seconds."""
    sound = 0.01 * rng.standard_normal(int(SECONDS * RATE))
    onsets = 0.1 + 0.2 * np.arange(5) + rng.uniform(0, 0.05, 5)
    for onset in onsets:
        begin = int(onset * RATE)
        sound[begin : begin + 1600] += 0.3 * rng.standard_normal(1600)
    return np.clip(sound, -1, 1), onsets


@pytest.fixture(scope="module")
def scored(environment, tmp_path_factory):
    """The CSV that the experiment writes."""
    folder = tmp_path_factory.mktemp("songs")
    rng = np.random.default_rng(0)
    songs, annotations = ["file,label,split"], ["filename\tonset"]
    for i, split in enumerate(SPLITS):
        sound, onsets = song(rng)
        (folder / f"{i}.wav").write_bytes(encode(sound, RATE))
        songs.append(f"{i}.wav,bird0,{split}")
        annotations += [f"{i}.wav\t{onset}" for onset in onsets]
    (folder / "songs.csv").write_text("\n".join(songs))
    (folder / "annotations.tsv").write_text("\n".join(annotations))

    environment = {**environment, "GRU_AUDIO_DATA": str(folder / "data")}
    told = ("--name", "birdsong", "--manifest", folder / "songs.csv", "--folder", folder)
    commands.run(environment, "prepare", "manifest", *told)
    small = ("--config.model.hidden=3", "--config.train.steps=30", "--config.train.batch_size=4")
    commands.run(
        environment,
        "sweep",
        *("--config", "experiments/update_gate.py", "--workdir", folder / "sweep"),
        *(*small, "--config.data.crop_seconds=1.0"),
    )
    out = folder / "results" / "update_gate.onsets.csv"
    subprocess.run(
        [
            *(sys.executable, "-m", "experiments.onsets", "--workdir", folder / "sweep"),
            *("--annotations", folder / "annotations.tsv", "--out", out),
        ],
        cwd=commands.ROOT,
        env=environment | {"PYTHONPATH": os.pathsep.join((str(commands.ROOT), *sys.path))},
        check=True,
    )
    with out.open(newline="") as file:
        return out, list(csv.DictReader(file))


def test_every_score_has_its_detector_for_each_seed(scored):
    _, rows = scored
    families = {"energy": 1, "gates": 5, "gates/extremes": 5, "surprise": 5, "untrained": 5}
    for measure in ("AUC", "F1"):
        of_scores = [r for r in rows if r["measure"] == measure and r["detector"]]
        for family, seeds in families.items():
            names = [r["score"] for r in of_scores if r["family"] == family]
            assert len(names) == seeds * len(set(names)) > 0


def test_energy_tells_where_a_burst_of_noise_begins(scored):
    _, rows = scored
    found = {(r["measure"], r["score"]): float(r["test"]) for r in rows if r["family"] == "energy"}
    assert found["AUC", "rise of log energy"] > 0.97
    assert found["F1", "rise of log energy"] > 0.9
    # A level tells that a burst is on, not that it begins.
    assert found["AUC", "log energy"] < found["AUC", "rise of log energy"]


def test_the_claim_is_judged_by_what_was_written(scored):
    out, rows = scored
    claim = next(claim for claim in CLAIMS if "update gate" in claim.statement)
    evidence = claim.tests(out.parent)
    summary = [r for r in rows if r["verdict"] and r["family"].startswith("gates")]
    assert len(evidence) == len(summary) == 6
    for one, row in zip(evidence, summary, strict=True):
        assert one.difference.value == float(row["test"])
        (_, first), (_, second) = one.first, one.second
        assert first - second == pytest.approx(one.difference.value, abs=2e-4)
        low, high = one.difference.low, one.difference.high
        verdict = "better" if low > 0 else "worse" if high < 0 else "no difference shown"
        assert row["verdict"] == verdict
