"""The data set builders of `gru_audio.prepare`, by their names on the command line."""

import importlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gru_audio.data.datasets.clips import ClipBuilder

_CLASSES = {  # name -> module and class
    "spoken_digit": "spoken_digit.SpokenDigit",
    "tts_digits": "tts_digits.TtsDigits",
    "speech_commands": "speech_commands.SpeechCommands",
    "an4": "an4.An4",
    "an4_mfcc": "an4.An4Mfcc",
    "yesno": "yesno.Yesno",
    "esc10": "esc.Esc10",
    "esc50": "esc.Esc50",
    "gtzan": "gtzan.Gtzan",
    "birdsong": "birdsong.Birdsong",
    "dcase2016_task2_remix": "dcase2016_task2_remix.Dcase2016Task2Remix",
    "jsb_chorales": "polyphonic_music.JsbChorales",
    "muse_data": "polyphonic_music.MuseData",
    "nottingham": "polyphonic_music.Nottingham",
    "piano_midi": "polyphonic_music.PianoMidi",
    "adding_200": "synthetic.Adding200",
    "adding_400": "synthetic.Adding400",
    "adding_600": "synthetic.Adding600",
    "copy_memory_500": "synthetic.CopyMemory500",
    "copy_memory_1000": "synthetic.CopyMemory1000",
    "copy_memory_2000": "synthetic.CopyMemory2000",
    "counting": "synthetic.Counting",
    "folder": "folder.Folder",
    "manifest": "manifest.Manifest",
    "features": "features.Features",
    "tfds": "catalogue.Catalogue",
}


class _Builders(Mapping[str, "type[ClipBuilder]"]):
    """The builder classes by name. A module is imported when its class is used."""

    def __getitem__(self, name: str) -> "type[ClipBuilder]":
        module, _, builder = _CLASSES[name].partition(".")
        return getattr(importlib.import_module(f"{__name__}.{module}"), builder)

    def __iter__(self) -> Iterator[str]:
        return iter(_CLASSES)

    def __len__(self) -> int:
        return len(_CLASSES)

    def __contains__(self, name: object) -> bool:
        return name in _CLASSES


BUILDERS = _Builders()
