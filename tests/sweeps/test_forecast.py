"""Plans for devices elsewhere. Those for TPUs need their compiler, the extra [aot]."""

import importlib.util
import json

import numpy as np
import pytest
from etils import epath

from gru_audio.config import override
from gru_audio.settings import UserError
from gru_audio.sweeps import forecast
from gru_audio.sweeps.planning import plan
from gru_audio.sweeps.sweep import Sweep
from gru_audio.training.hyper import hyperparameters
from tests.commands import run, write_experiment
from tests.tones import make_loader, tiny

HAS_LIBTPU = importlib.util.find_spec("libtpu") is not None
on_tpu = pytest.mark.skipif(not HAS_LIBTPU, reason="needs libtpu: pip install gru-audio[aot]")


def planned(data_dir, changes=None, replicates=2):
    config = override(tiny({"data.dir": str(data_dir)}), changes or {})
    sweep = Sweep({"GRU": {}}, replicates=[{"seed": seed} for seed in range(replicates)])
    return plan(config, sweep, "tones", "", "")


def of_one(planned, topology, folder, say=lambda text: None):
    found = forecast.forecasts(planned, forecast.topology(topology), epath.Path(folder), say)
    (one,) = found
    return one


def test_a_plan_for_this_machine_knows_what_training_finds(data_dir, source, tmp_path):
    sweep = planned(data_dir)
    found = of_one(sweep, "local", tmp_path)
    configs = [run.config for run in sweep.runs]
    loader = make_loader(source, configs)
    loader.train(loader.initial_state(hyperparameters(configs)), np.ones(2, bool), 0, 1)
    assert found.memory_bytes == loader.placement.memory_bytes
    assert (found.side_by_side, found.steps, found.kernels, found.error) == (1, 20, 0, "")
    assert found.flops > 0 and found.bytes > 0 and found.iterations > 0
    assert found.step_seconds is None  # there are no published peaks


def test_a_repeated_plan_compiles_nothing(data_dir, tmp_path):
    said: list[str] = []
    first = of_one(planned(data_dir), "local", tmp_path, said.append)
    assert len(said) == 1
    assert of_one(planned(data_dir), "local", tmp_path, said.append) == first
    assert len(said) == 1
    of_one(planned(data_dir, {"model.hidden": 9}), "local", tmp_path, said.append)
    assert len(said) == 2


@pytest.mark.parametrize("name", ["", "v1:2x2", "gtx:8", "tpu"])
def test_other_topologies_are_refused(name):
    with pytest.raises(UserError, match=r'"local" or begin with v4, v5e, v5p, v6e'):
        forecast.topology(name)


@pytest.mark.skipif(HAS_LIBTPU, reason="libtpu is installed")
def test_a_missing_compiler_is_named():
    with pytest.raises(UserError, match=r"gru-audio\[aot\]"):
        forecast.topology("v5e:2x2")


def test_prices():
    assert forecast.chip_prices(["v5e=1.2", "v6e=0"]) == {"v5e": 1.2, "v6e": 0.0}
    for text in ("v5e", "v5e=", "v5e=-1", "v5e=nan", "gtx=2"):
        with pytest.raises(UserError, match=r"a chip and its price"):
            forecast.chip_prices([text])


def test_the_command(environment, tmp_path):
    file = write_experiment(tmp_path / "tones.py", "")
    command = ("sweep", f"--config={file}", f"--workdir={tmp_path}/w")
    shown = run(environment, *command, "--plan", "--topology=local").stdout
    assert "On local" in shown and "GFLOP" in shown
    assert "sbatch --array=1-2 launch/slurm.sbatch" in shown
    assert not (tmp_path / "w" / "runs").exists()
    assert len(json.loads((tmp_path / "w" / "plans" / "local.json").read_text())) == 2
    assert (
        "--topology needs --plan" in run(environment, *command, "--topology=local", code=2).stderr
    )


def test_numbers_of_gpus():
    assert forecast.topology("h100:4096").chips == 4096
    for name in ("h100", "h100:", "h100:0", "h100:2x2"):
        with pytest.raises(UserError, match="h100:8"):
            forecast.topology(name)


# JAX 0.12 announces that Pallas' way to Triton will be removed.
@pytest.mark.filterwarnings("ignore:The Pallas Triton backend:DeprecationWarning")
@pytest.mark.parametrize("mode", ["pjit", "pmap"])
def test_a_plan_for_gpus_names_their_kernels(mode, data_dir, tmp_path):
    changes = {
        "parallel.mode": mode,
        "parallel.data": 2,
        "model.implementation": "pallas_gpu",
        "model.hidden": 16,
    }
    found = of_one(planned(data_dir, changes, replicates=1), "h100:2", tmp_path)
    assert found.memory_bytes is None and found.bytes == 0 and not found.error
    assert found.collectives["all-reduce"] >= 1
    assert found.kernels == len(found.kernel_names) >= 2  # forward and backward
    assert found.flops > 0
    assert found.step_seconds >= found.iterations * forecast.ITERATION_SECONDS
    assert found.chip_hours == pytest.approx(found.step_seconds * 20 * 2 / 3600)
    assert of_one(planned(data_dir, changes, replicates=1), "h100:2", tmp_path) == found


def test_members_of_a_gpu_go_side_by_side(data_dir, tmp_path):
    changes = {"parallel.member": 2, "model.implementation": "loop"}
    found = of_one(planned(data_dir, changes, replicates=4), "t4:2", tmp_path)
    assert (found.side_by_side, found.kernels, found.idle_chips) == (2, 0, 0)


@on_tpu
class TestOnATpu:
    def test_members_fill_the_chips(self, data_dir, tmp_path):
        found = of_one(planned(data_dir, {"parallel.member": 0}, replicates=3), "v5e:2x2", tmp_path)
        assert (found.side_by_side, found.idle_chips, found.collectives) == (1, 1, {})
        assert found.step_seconds >= found.iterations * forecast.ITERATION_SECONDS
        assert found.chip_hours == pytest.approx(found.step_seconds * 20 * 4 / 3600)

    def test_a_shared_batch_is_reduced_over_the_chips(self, data_dir, tmp_path):
        changes = {"parallel.data": 4, "model.implementation": "pallas_tpu"}
        found = of_one(planned(data_dir, changes, replicates=1), "v5e:2x2", tmp_path)
        assert found.collectives == {"all-reduce": 1}
        assert found.kernels >= 2  # forward and backward

    def test_too_large_a_program_is_an_answer(self, data_dir, tmp_path):
        changes = {"model.hidden": 20_000, "model.cell": "lstm"}
        found = of_one(planned(data_dir, changes, replicates=1), "v5e:2x2", tmp_path)
        assert "memory" in found.error
        assert found.chip_hours is None

    def test_a_layout_that_does_not_exist(self):
        with pytest.raises(UserError, match="3x3"):
            forecast.topology("v5e:3x3")
