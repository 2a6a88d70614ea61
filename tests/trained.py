"""Models for tests: trained for a moment, as a finished run keeps them."""

from ml_collections import ConfigDict

from gru_audio.data.source import Source
from gru_audio.inference.trained_model import TrainedModel
from gru_audio.tasks import target_field
from tests.tones import make_loader, member, steps


def train(source: Source, config: ConfigDict, count: int) -> TrainedModel:
    """A model after so many steps."""
    loader = make_loader(source, [config])
    one = member(steps(loader, [config], [count])[0], 0)
    return TrainedModel(
        config=config,
        field=target_field(source, config),
        signal=loader.program.signal,
        longest=loader.data.plan.padded[-1],
        longest_clip=int(source.columns["length"].max()),
        weights=one.weights,
        normalisation=one.normalisation,
        about={"run": "one"},
        decoding=loader.program.task.decoding(None),
    )
