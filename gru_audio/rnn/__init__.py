"""Recurrent cells, the recurrence that runs them over time, and the layers built from them."""

from gru_audio.rnn.cells import CELLS
from gru_audio.rnn.equations import Cell
from gru_audio.rnn.initialisers import INITIALISERS
from gru_audio.rnn.layer import Dropout, Encoder, EncoderOutput, Layer, check_projection
from gru_audio.rnn.recurrence import IMPLEMENTATIONS, recurrence

__all__ = [
    "CELLS",
    "IMPLEMENTATIONS",
    "INITIALISERS",
    "Cell",
    "Dropout",
    "Encoder",
    "EncoderOutput",
    "Layer",
    "check_projection",
    "recurrence",
]
