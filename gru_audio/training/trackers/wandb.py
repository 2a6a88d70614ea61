"""Weights & Biases, also offline (`WANDB_MODE=offline`; `wandb sync` uploads the files later).

Its files are in the folder `wandb` of `WANDB_DIR`, or of the working directory.

Each member of a group is a run of the project; its W&B group is its variant.
"""

import itertools
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import wandb

from gru_audio.training.logging import Record
from gru_audio.training.trackers.tracker import TrackedRun, Tracker, scalars, timestamp


class Wandb(Tracker):
    """Sends one row for each step.

    A server knows the last step that it has, and gets the later ones. Offline, the files of an
    earlier process are replaced, because they may lack what it did not write before it was killed.
    """

    def __init__(self, run: TrackedRun):
        super().__init__(run)
        identifier = run.identifier()
        self._wandb = wandb.init(
            project=run.project,
            group=run.variant,
            name=run.name,
            id=identifier,
            config={**run.settings, "variant": run.variant},
            allow_val_change=True,
            resume="allow",
            reinit="create_new",
            settings=wandb.Settings(silent=True, console="off"),
        )
        if self._wandb.offline:
            own = Path(self._wandb.dir).parent
            for folder in sorted(own.parent.iterdir()):
                name = folder.name
                if name.startswith("offline-run-") and name.endswith(identifier) and folder != own:
                    shutil.rmtree(folder, ignore_errors=True)
        self._next = self._wandb.step  # the first step to send

    def update(self, records: Sequence[Record]) -> None:
        new = [record for record in records if record["step"] >= self._next]
        for step, together in itertools.groupby(new, key=lambda record: record["step"]):
            row: dict[str, float] = {}
            for record in together:
                row |= {**scalars(record), "_timestamp": timestamp(record)}
            self._wandb.log(row, step=step, commit=True)
            self._next = step + 1

    def finish(self, records: Sequence[Record], final: Mapping[str, float] | None) -> None:
        self.update(records)
        self._wandb.summary.update(dict(final or {}))
        self._wandb.finish(exit_code=int(final is None))

    def close(self) -> None:
        self._wandb.mark_preempting()
        self._wandb.finish(exit_code=1)
