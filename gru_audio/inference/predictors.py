"""The kinds of predictions that `predict` prints."""

from gru_audio.inference.events import EventLists
from gru_audio.inference.labels import Labels
from gru_audio.inference.predictor import Predictor
from gru_audio.inference.transcripts import Transcripts

PREDICTORS: dict[str, type[Predictor]] = {  # by `Task.predicts`
    "labels": Labels,
    "text": Transcripts,
    "events": EventLists,
}
