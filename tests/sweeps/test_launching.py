"""The commands that launch a sweep, against the files and places that they name."""

import shlex

import pytest

from gru_audio.sweeps.launching import commands
from tests.commands import ROOT

ARGUMENTS = [
    *("--config", "experiments/spoken_digit.py", "--workdir=runs/My digits", "--plan"),
    *("--topology", "v5e:4x4", "--chip_price=v5e=1.2", "--config.train.steps=9"),
]
SWEEP = "--config experiments/spoken_digit.py '--workdir=runs/My digits' --config.train.steps=9"


def test_here_and_on_slurm():
    found = commands([*ARGUMENTS, "--shard=1/3"], "spoken_digit", shards=3)
    assert found == {
        "this machine, several processes": (
            f"python launch/local.py --processes 2 -- python -m gru_audio.sweep {SWEEP} --shard=1/3"
        ),
        "SLURM": f"sbatch --array=1-3 launch/slurm.sbatch {SWEEP}",
    }


@pytest.mark.parametrize(
    ("topology", "accelerator", "runtime"),
    [
        ("v5e:4x4", "v5litepod-16", "v2-alpha-tpuv5-lite"),
        ("v6e:2x2", "v6e-4", "v2-alpha-tpuv6e"),
        ("v5p:2x2x2", "v5p-16", "v2-alpha-tpuv5"),
        ("v4:2x2x1", "v4-8", "tpu-ubuntu2204-base"),
    ],
)
def test_on_tpus(topology, accelerator, runtime):
    vm, gke, sky = commands(ARGUMENTS, "spoken_digit", topology, 2).values()
    sweep = (
        "--config=experiments/spoken_digit.py --workdir=gs://BUCKET/my-digits "
        "--config.train.steps=9"
    )
    assert vm == (
        f"ZONE=ZONE ACCELERATOR={accelerator} RUNTIME={runtime} PREPARE=spoken_digit "
        f"launch/tpu_vm.sh my-digits {sweep}"
    )
    assert gke == (
        f"python launch/gke/jobset.py --image IMAGE --name my-digits --topology {topology} "
        f"--shards 2 --prepare spoken_digit -- {sweep} | kubectl apply --filename -"
    )
    assert f"s/tpu-v5litepod-8/tpu-{accelerator}/" in sky and runtime in sky
    assert "--env WORKDIR=gs://BUCKET/my-digits" in sky
    template = (ROOT / "launch" / "skypilot" / "tpu.yaml").read_text()
    assert "tpu-v5litepod-8" in template and "v2-alpha-tpuv5-lite" in template


def test_on_gpus_and_with_a_workdir_in_a_bucket():
    arguments = ["--config=experiments/esc10.py", "--workdir=gs://own/esc10"]
    found = commands(arguments, "tfds:a b", "h100:8", 4)
    assert found["SLURM"].startswith("sbatch --array=1-4 --gres=gpu:8 launch/slurm.sbatch")
    sky = shlex.split(found["SkyPilot"])
    assert sky[:6] == ["sky", "jobs", "launch", "launch/skypilot/gpu.yaml", "--gpus", "H100:8"]
    assert {"EXPERIMENT=experiments/esc10.py", "WORKDIR=gs://own/esc10", "PREPARE=tfds:a b"} <= {
        *sky
    }


@pytest.mark.parametrize("topology", ["", "h100:8", "v5e:2x2"])
def test_the_files_exist(topology):
    for line in commands(ARGUMENTS, "spoken_digit", topology).values():
        (file,) = (word for word in shlex.split(line) if word.startswith("launch/"))
        assert (ROOT / file).exists()
