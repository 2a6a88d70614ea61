"""Records of a run that was killed and resumed, and how tests make trackers of it."""

from etils import epath

from gru_audio.training.trackers import TrackedRun

NOW = 1_700_000_000.0
FIRST = [
    {"run": "a", "step": 50, "train/loss": 2.5, "seconds": 1.0, "time": NOW + 1},
    {"run": "b", "step": 50, "train/loss": 7.5, "seconds": 1.0, "time": NOW + 1},
    {"run": "a", "step": 50, "validation/accuracy": 0.5, "seconds": 2.0, "time": NOW + 2},
]
SECOND = [
    {"run": "a", "step": 100, "train/loss": 1.25, "seconds": 3.0, "time": NOW + 3},
    {"run": "a", "step": 150, "train/loss": float("nan"), "seconds": 4.0, "time": NOW + 4},
    {"run": "a", "step": 150, "train/accuracy": None, "seconds": 4.0, "time": NOW + 4},
]
OF_A = [(50, "train/loss", 2.5), (50, "validation/accuracy", 0.5), (100, "train/loss", 1.25)]


def tracked(folder, *names, project="tones"):
    """Runs in the folder, as a sweep describes them."""
    settings = {"model.hidden": 8, "model.layers": [8, 8], "optimizer.learning_rate": 0.01}
    return [
        TrackedRun(
            name,
            epath.Path(folder) / name,
            project,
            "GRU",
            settings,
            {"variant": "GRU", "optimizer.learning_rate": 0.01, "seed": 1},
        )
        for name in names
    ]
