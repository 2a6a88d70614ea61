"""The data set builders of `gru_audio.prepare`, by their names on the command line."""

from gru_audio.data.datasets.an4 import An4, An4Mfcc
from gru_audio.data.datasets.bach_violin import BachViolin
from gru_audio.data.datasets.birdsong import Birdsong
from gru_audio.data.datasets.catalogue import Catalogue
from gru_audio.data.datasets.clips import ClipBuilder
from gru_audio.data.datasets.dcase2016_task2_remix import Dcase2016Task2Remix
from gru_audio.data.datasets.esc import Esc10, Esc50
from gru_audio.data.datasets.features import Features
from gru_audio.data.datasets.folder import Folder
from gru_audio.data.datasets.gtzan import Gtzan
from gru_audio.data.datasets.manifest import Manifest
from gru_audio.data.datasets.polyphonic_music import JsbChorales, MuseData, Nottingham, PianoMidi
from gru_audio.data.datasets.speech_commands import SpeechCommands
from gru_audio.data.datasets.spoken_digit import SpokenDigit
from gru_audio.data.datasets.synthetic import (
    Adding200,
    Adding400,
    Adding600,
    CopyMemory500,
    CopyMemory1000,
    CopyMemory2000,
    Counting,
)
from gru_audio.data.datasets.tts_digits import TtsDigits
from gru_audio.data.datasets.yesno import Yesno

BUILDERS: dict[str, type[ClipBuilder]] = {
    "spoken_digit": SpokenDigit,
    "tts_digits": TtsDigits,
    "speech_commands": SpeechCommands,
    "an4": An4,
    "an4_mfcc": An4Mfcc,
    "yesno": Yesno,
    "esc10": Esc10,
    "esc50": Esc50,
    "gtzan": Gtzan,
    "birdsong": Birdsong,
    "bach_violin": BachViolin,
    "dcase2016_task2_remix": Dcase2016Task2Remix,
    "jsb_chorales": JsbChorales,
    "muse_data": MuseData,
    "nottingham": Nottingham,
    "piano_midi": PianoMidi,
    "adding_200": Adding200,
    "adding_400": Adding400,
    "adding_600": Adding600,
    "copy_memory_500": CopyMemory500,
    "copy_memory_1000": CopyMemory1000,
    "copy_memory_2000": CopyMemory2000,
    "counting": Counting,
    "folder": Folder,
    "manifest": Manifest,
    "features": Features,
    "tfds": Catalogue,
}
