"""The settings of a run's data: the data set, the roles of its examples, and the loader."""

from dataclasses import dataclass

from gru_audio.settings import setting

_COUNT = 2**31 - 1  # example ids are int32


@dataclass(frozen=True)
class DataSettings:
    """The section `data` of a config."""

    name: str = setting("spoken_digit", doc="The data set, as it is named to `prepare`.")
    dir: str | None = setting(
        None,
        kind=str,
        machine=True,
        doc="The folder of prepared data sets; None: $GRU_AUDIO_DATA or the user's cache.",
    )
    target: str = setting("digit", doc='The field to predict; "" for tasks without one.')
    train: str = setting("train", doc='The splits to train on, joined by "+".')
    validation: str = setting(
        "validation",
        per_run=True,
        doc='The validation splits; "fold=4": a part of the training examples; "": none.',
    )
    test: str = setting("test", doc="The test splits.")
    hold_out: str = setting(
        "",
        per_run=True,
        doc='"speaker=theo" tests on all examples of theo and trains on none of them.',
    )
    background: str = setting(
        "", doc='"label=noise": the training examples that are mixed into others.'
    )
    cluster: str = setting(
        "", doc="The field whose examples belong together when intervals are computed."
    )
    crop_seconds: float | None = setting(
        None,
        kind=float,
        unit="s",
        above=0,
        high=1e6,
        doc="Longer clips are cut to this length, in training at random; None: they are not.",
    )
    train_examples: int = setting(
        0,
        low=0,
        high=_COUNT,
        per_run=True,
        doc="Use this many training examples, drawn by the seed; 0: all.",
    )
    examples_per_class: int = setting(
        0,
        low=0,
        high=_COUNT,
        per_run=True,
        doc="Use this many training examples of each class, drawn by the seed; 0: all.",
    )
    train_scored: int = setting(
        5000,
        low=0,
        high=_COUNT,
        doc="Score this many training examples at the end of a run; 0: all.",
    )
    sampling: str = setting(
        "shuffled",
        choices=("shuffled", "balanced"),
        doc='What is drawn equally often: "shuffled": examples; "balanced": classes of `target`.',
    )
    loader: str = setting(
        "resident",
        choices=("resident", "streamed"),
        doc='"resident": the data set lies in device memory; "streamed": Grain reads it from disk.',
    )
    buckets: int = setting(
        4, low=1, high=1000, doc="The number of lengths to which examples are padded, at most."
    )
    seed: int = setting(
        0,
        low=0,
        high=2**32 - 1,
        doc="The seed of the order in which lengths follow each other; one for all runs.",
    )
    workers: int = setting(
        2, low=1, high=256, machine=True, doc="The reading threads of a streamed data set."
    )
