"""The data sets that `gru_audio.prepare` can make, by the name one types."""

from gru_audio.data.builders.clips import ClipBuilder
from gru_audio.data.builders.folder import Folder
from gru_audio.data.builders.manifest import Manifest
from gru_audio.data.builders.spoken_digit import SpokenDigit
from gru_audio.data.builders.tts_digits import TtsDigits

BUILDERS: dict[str, type[ClipBuilder]] = {
    "spoken_digit": SpokenDigit,
    "tts_digits": TtsDigits,
    "folder": Folder,
    "manifest": Manifest,
}
