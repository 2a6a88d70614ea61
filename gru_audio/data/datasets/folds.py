"""Folds of a small data set, for cross-validation: `sweep.folds("fold", ...)` in an experiment."""

from collections.abc import Hashable, Sequence

import numpy as np

from gru_audio.data.datasets.splitting import Groups, joined_groups
from gru_audio.settings import UserError

FOLD = "fold"  # the name of the field


def draw_folds(
    count: int | None,
    labels: Sequence[str],
    groups: Groups | None,
    same: Sequence[Hashable],
    seed: int,
) -> list[str | None]:
    """Returns the fold of each clip, "1" to `count`.

    Folds have similar numbers of clips of each label. Clips of one group, of one file or of files
    with equal content are in one fold.

    Args:
      count: number of folds; None: there are none.
      labels: the label of each clip; "": none.
      groups: groups of clips to keep together.
      same: a key of each clip that is equal for clips of one file or of files with equal content.
      seed: the seed of the folds.

    Raises:
      UserError: there are fewer groups than folds.
    """
    if not count:
        return [None] * len(labels)
    group = joined_groups(groups or Groups("", [""] * len(labels), requested=False), same)
    if len(set(group)) < count:
        raise UserError(
            f"--folds {count} needs as many groups of clips to keep apart; there are "
            f"{len(set(group))}."
        )
    from sklearn.model_selection import StratifiedGroupKFold  # takes a second

    _, label = np.unique(labels, return_inverse=True)
    folds = np.zeros(len(label), int)
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    for number, (_, members) in enumerate(splitter.split(label, label, group), 1):
        folds[members] = number
    return [str(fold) for fold in folds]
