"""Training gives the recorded losses of an earlier version.

On the machine that recorded them, they are bit-identical. Other processors round differently.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.rolls import NEXT_STEP
from tests.tones import NOISE, make_loader, steps, tiny

RECORDED = json.loads((Path(__file__).parents[1] / "golden" / "losses.json").read_text())
# Augmentation that was not yet there does not change the random numbers of the others.
LATER = ("augment.tempo", "augment.frequency_warp", "train.ema_decay")
CASES = {
    "noise": [
        {name: value for name, value in NOISE.items() if name not in LATER}
        | {"data.buckets": 2, "seed": seed, "optimizer.learning_rate": rate}
        for seed, rate in ((0, 0.01), (1, 0.02))
    ],
    "segments": [{"model.cell": "lstm", "train.tbptt_frames": 6, "model.dropout": 0.2}],
    "convolutions": [
        {"model.name": "crnn", "model.conv": ("4 3x3 stride 1x2",), "parallel.data": 2}
    ],
    "rolls": [{**NEXT_STEP, "train.tbptt_frames": 16}],
}


@pytest.mark.parametrize("case", CASES)
def test_losses_are_those_recorded(request, case):
    source = request.getfixturevalue("rolls" if case == "rolls" else "source")
    configs = [tiny(changes) for changes in CASES[case]]
    _, metrics = steps(make_loader(source, configs), configs, [12])
    np.testing.assert_allclose(metrics["loss"], RECORDED[case], rtol=1e-3)
