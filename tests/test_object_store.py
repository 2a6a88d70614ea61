"""Workdirs on gs://: the commands against an emulator that keeps each object as a file."""

import json
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from tests.commands import assert_same_leavings, leavings, run, running, write_experiment
from tests.songs import SONGS

pytest.importorskip("gcp_storage_emulator", reason="the emulator comes with the [test] extra")

BUCKET = "bucket"
CHANGES = {
    "train.steps": 60,
    "train.eval_every": 30,
    "checkpoint.every_steps": 15,
    "parallel.call_seconds": 0.1,
}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Where the emulator keeps the bucket's objects, and its address."""
    folder = tmp_path_factory.mktemp("store")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    start = ["start", "--host=localhost", f"--port={port}", f"--default-bucket={BUCKET}", "--quiet"]
    code = "from gcp_storage_emulator.__main__ import main; main()"
    emulator = subprocess.Popen(
        [sys.executable, "-c", code, "-d", str(folder), *start],
        stderr=subprocess.DEVNULL,  # a client that is killed makes it complain
    )
    address = f"http://localhost:{port}"
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                urllib.request.urlopen(f"{address}/storage/v1/b/{BUCKET}").close()
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        yield folder / ".cloudstorage" / BUCKET, address
    finally:
        emulator.kill()
        emulator.wait()


@pytest.mark.reliability
@pytest.mark.usefixtures("songs")
@pytest.mark.parametrize(("metric", "changes"), [("accuracy", {}), ("frame_error", SONGS)])
def test_trained_killed_resumed_and_reported(store, environment, tmp_path, metric, changes):
    objects, address = store
    environment = environment | {
        "STORAGE_EMULATOR_HOST": address,  # of gcsfs
        "TENSORSTORE_GCS_HTTP_URL": address,
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",  # asks about the bucket what it cannot tell
        "NO_GCE_CHECK": "true",  # no credentials are looked for
    }
    experiment = write_experiment(tmp_path / "tones.py", f"**{CHANGES | changes}")
    train = ["train", "--config", experiment, "--workdir"]
    run(environment, *train, tmp_path / "local")

    workdir, kept = f"gs://{BUCKET}/runs/{metric}", objects / "runs" / metric
    with running(environment, *train, workdir) as process:
        while not list(kept.glob("groups/*/checkpoints/[1-9]*/commit_success.txt")):
            assert process.poll() is None
            time.sleep(0.02)
        process.kill()
    assert not list(kept.glob("runs/*/result.json"))
    shown = run(environment, *train, workdir)
    assert "resumes at step" in shown.stderr
    assert_same_leavings(kept, leavings(tmp_path / "local"))

    assert "1 run: 1 finished" in run(environment, "sweep", "--status", workdir).stdout
    run(environment, "report", "--workdir", workdir)
    assert "tones" in (kept / "report" / "index.html").read_text()
    scored = json.loads(run(environment, "evaluate", "--workdir", workdir, "--json").stdout)
    result = json.loads(next(kept.glob("runs/*/result.json")).read_text())
    assert scored["metrics"][metric] == result["metrics"]["test"][metric]
