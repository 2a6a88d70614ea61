"""Synthesises speech with eSpeak NG, as a separate program: JSON lines in, WAV files out.

    python espeak.py FOLDER < utterances

eSpeak's oscillators keep their phase from one word to the next, and its interface has no reset. So
the output is reproducible only in a new process, with the utterances in the same order.
"""

import ctypes
import json
import os
import sys
import wave
from pathlib import Path

import numpy as np

# From espeak-ng's speak_lib.h.
_SYNCHRONOUS = 2  # no playback: the callback gets all samples before `espeak_Synth` returns
_BY_CHARACTER = 1
_UTF8 = 1
_RATE, _PITCH = 1, 3
_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)

_SILENCE = 0.01  # of the peak
_MARGIN = 0.02  # seconds of silence to keep at each end


class Speaker:
    """The eSpeak NG library with its voices."""

    def __init__(self) -> None:
        import espeakng_loader

        self._chunks: list[bytes] = []
        self._callback = _CALLBACK(self._collect)  # the library keeps no reference
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        voices = espeakng_loader.get_data_path().encode()
        self.sample_rate: int = self._library.espeak_Initialize(_SYNCHRONOUS, 0, voices, 0)
        if self.sample_rate <= 0:
            raise RuntimeError(f"eSpeak NG cannot be initialised with {voices.decode()}")
        self._library.espeak_SetSynthCallback(self._callback)
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(1))  # the default is the clock

    def say(self, text: str, voice: str, rate: int, pitch: int) -> np.ndarray:
        """Synthesises `text`; returns int16 samples (n,) without silence at the ends.

        Args:
          text: the words to speak.
          voice: language and variant, such as "en-us+f2".
          rate: words per minute, 80 to 450.
          pitch: 0 to 99; eSpeak's default is 50.
        """
        self._check(self._library.espeak_SetVoiceByName(voice.encode()), f"voice {voice}")
        self._check(self._library.espeak_SetParameter(_RATE, rate, 0), f"rate {rate}")
        self._check(self._library.espeak_SetParameter(_PITCH, pitch, 0), f"pitch {pitch}")
        self._chunks.clear()
        encoded = text.encode() + b"\0"
        error = self._library.espeak_Synth(
            encoded, ctypes.c_size_t(len(encoded)), 0, _BY_CHARACTER, 0, _UTF8, None, None
        )
        self._check(error, f"text {text}")
        return self._trim(np.frombuffer(b"".join(self._chunks), np.int16))

    def _collect(self, samples, count: int, events) -> int:
        if samples and count:
            self._chunks.append(ctypes.string_at(samples, 2 * count))
        return 0

    def _trim(self, samples: np.ndarray) -> np.ndarray:
        level = np.abs(samples.astype(np.int32))
        loud = np.flatnonzero(level > _SILENCE * level.max(initial=0))
        if not len(loud):
            return samples
        margin = round(_MARGIN * self.sample_rate)
        return samples[max(0, loud[0] - margin) : loud[-1] + margin]

    @staticmethod
    def _check(error: int, argument: str) -> None:
        if error:
            raise RuntimeError(f"eSpeak NG refuses {argument} (error {error})")


def main(folder: Path) -> None:
    """Writes FOLDER/NAME.wav for every line {"name", "text", "voice", "rate", "pitch"}."""
    parent = os.getppid()
    speaker = Speaker()
    for line in sys.stdin:
        utterance = json.loads(line)
        name = utterance.pop("name")
        with wave.open(str(folder / f"{name}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(speaker.sample_rate)
            file.writeframes(speaker.say(**utterance).tobytes())
        if os.getppid() != parent:
            sys.exit("the parent process has ended")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
