"""AN4: 1078 recordings of spelled names, letters, numbers, dates and commands by 84 speakers.

Carnegie Mellon University, about 1991; see Acero 1993, "Acoustical and Environmental Robustness in
Automatic Speech Recognition". `An4` has the sounds, `An4Mfcc` the features that came with Sphinx.
"""

import functools
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

import tensorflow_datasets as tfds

from gru_audio.audio.io import Audio, decode
from gru_audio.data.datasets import archive as archives
from gru_audio.data.datasets import feature_files
from gru_audio.data.datasets.clips import SKIP, Clip, ClipBuilder
from gru_audio.data.datasets.download import download
from gru_audio.data.datasets.features import SPHINX_WIDTH
from gru_audio.data.datasets.tables import read_table
from gru_audio.data.fields import ClassField, Field, TextField
from gru_audio.data.signal import Signal, frames
from gru_audio.files import read_text
from gru_audio.paths import local_path
from gru_audio.settings import UserError

URL = "http://www.speech.cs.cmu.edu/databases/an4/an4_sphere.tar.gz"
# A hash of the names, splits and transcripts: the sounds exist in several formats.
TRANSCRIPTS_SHA256 = "0f62fd4eaf1b0aecc00b7c6f107be7c2cc2c4a60867ef57e94ff3647aa9a3bb5"
FRAME_RATE = 100  # Hz

_NAME = re.compile(r"[^\W_]+-(?P<speaker>[^\W_]+)-b")  # an251-fash-b: the speaker is fash
_LINE = re.compile(r"(?:<s>)?(?P<text>.*?)(?:</s>)?\s*\((?P<name>\S+)\)")
_EVERY = 10  # of the speakers for training, every tenth is for validation


class Utterance(NamedTuple):
    """The name of a recording, its official split, and its transcript."""

    name: str
    split: str
    text: str


class An4(ClipBuilder):
    """AN4: transcripts in capital letters, and speakers.

    The official splits have 948 utterances of 74 speakers for training, and 130 of 10 others for
    testing. The official training split serves for validation too: every tenth of its speakers, in
    alphabetical order, is there.
    """

    VERSION = tfds.core.Version("1.0.0")
    fields: Mapping[str, type[Field]] = {"text": TextField, "speaker": ClassField}
    homepage = "http://www.speech.cs.cmu.edu/databases/an4/"
    licence = "that of CMU for AN4, free for any purpose if the notice is kept"
    suffixes: ClassVar[tuple[str, ...]] = (".sph", ".wav", ".flac", ".ogg")

    def __init__(
        self,
        *,
        data_dir: Path | str,
        archive: Path | str | None = None,
        manifest: Path | str | None = None,
        verify: bool = True,
        sample_rate: int = 16000,
        on_bad_file: str = SKIP,
    ):
        """Prepares `archive`, or downloads the release in NIST SPHERE format.

        The recordings may be anywhere in the archive, in any format that `decode` reads. Headerless
        samples (an4_raw) must be converted first.

        Args:
          manifest: a CSV (file, text, split) with the transcripts, for an archive without
            etc/an4_train.transcription and etc/an4_test.transcription.
          verify: refuse other transcripts or splits than those of the release.
        """
        self._archive, self._verify = archive, verify
        self._listed = _listed(local_path(manifest)) if manifest else None
        super().__init__(data_dir=data_dir, sample_rate=sample_rate, on_bad_file=on_bad_file)

    def clips(self, scratch: Path, downloads: Path) -> Sequence[Clip]:
        archive = self._archive or download(URL, downloads / Path(URL).name)
        root = archives.unpack(archive, scratch)
        utterances = self._listed or _transcripts(root, archive)
        if self._verify:
            _check_transcripts(utterances)
            self.verified = "names, splits and transcripts are those of the release, by sha256"
        files = {path.stem: path for path in root.rglob("*") if path.suffix in self.suffixes}
        if not files.keys() & {utterance.name for utterance in utterances}:
            raise UserError(f"{archive} has no recordings {', '.join(self.suffixes)} of AN4.")
        absent = root / f"absent{self.suffixes[0]}"  # reports missing recordings as bad files
        held_out = validation_speakers(utterances)
        self.remarks.append(_known_sentences(utterances))
        return [
            Clip(
                name=name,
                split="validation" if speaker_of(name) in held_out else split,
                labels={"text": text, "speaker": speaker_of(name)},
                read=self._reader(files.get(name, absent), name),
            )
            for name, split, text in utterances
        ]

    def _reader(self, path: Path, name: str) -> Callable[[int], Audio]:
        return functools.partial(decode, path, name=name)


class An4Mfcc(An4):
    """AN4 as 13 mel-frequency cepstral coefficients per frame; see `An4`.

    Sphinx computed them from 40 filters between 130 and 6800 Hz, with 100 frames per second. They
    are not normalised.
    """

    suffixes = (feature_files.SPHINX,)

    def __init__(
        self,
        *,
        data_dir: Path | str,
        archive: Path | str,
        manifest: Path | str | None = None,
        verify: bool = True,
        on_bad_file: str = SKIP,
    ):
        """Prepares `archive`, with one .mfc file per recording; see `An4`."""
        super().__init__(
            data_dir=data_dir,
            archive=archive,
            manifest=manifest,
            verify=verify,
            sample_rate=FRAME_RATE,
            on_bad_file=on_bad_file,
        )

    @property
    def signal(self) -> Signal:
        return frames(SPHINX_WIDTH, "float32", FRAME_RATE)

    def _reader(self, path: Path, name: str) -> Callable[[int], Audio]:
        row = [{"file": path.name}]
        sequences = feature_files.from_files(path.parent, row, "file", SPHINX_WIDTH)

        def read(rate: int) -> Audio:
            values = sequences.read(0, path.parent)
            return Audio(feature_files.check(values, SPHINX_WIDTH, name), rate, rate)

        return read


def speaker_of(name: str) -> str:
    """Returns the speaker of a recording.

    Raises:
      UserError: the name is not like those of AN4.
    """
    match = _NAME.fullmatch(name)
    if not match:
        raise UserError(f'"{name}" is not a recording of AN4, such as an251-fash-b.')
    return match["speaker"]


def validation_speakers(utterances: Sequence[Utterance]) -> frozenset[str]:
    """Returns every tenth of the speakers of the official training split; see `An4`."""
    speakers = {
        speaker_of(utterance.name) for utterance in utterances if utterance.split == "train"
    }
    return frozenset(sorted(speakers)[_EVERY - 1 :: _EVERY])


def _transcripts(root: Path, archive: Path | str) -> list[Utterance]:
    """Reads the transcripts of the release: lines such as <s> YES </s> (an251-fash-b)."""
    utterances = []
    for split in ("train", "test"):
        path = root / "etc" / f"an4_{split}.transcription"
        try:
            lines = read_text(path).splitlines()
        except FileNotFoundError as error:
            raise UserError(
                f"{archive} has no etc/{path.name}: pass --manifest, a CSV with the columns file, "
                "text and split."
            ) from error
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"Cannot read etc/{path.name} of {archive}: {error}") from error
        for number, line in enumerate(lines, 1):
            match = _LINE.fullmatch(line.strip())
            if not match:
                raise UserError(f"etc/{path.name}, line {number}: not TEXT (NAME): {line!r}.")
            utterances.append(Utterance(match["name"], split, match["text"].strip()))
    return utterances


def _listed(manifest: Path) -> list[Utterance]:
    rows = read_table(manifest, ("file", "text", "split"))
    return [Utterance(Path(row["file"]).stem, row["split"], row["text"]) for row in rows]


def _check_transcripts(utterances: Sequence[Utterance]) -> None:
    lines = "".join(f"{' '.join(utterance)}\n" for utterance in sorted(utterances))
    if hashlib.sha256(lines.encode()).hexdigest() != TRANSCRIPTS_SHA256:
        raise UserError(
            "These are not the names, splits and transcripts of the 1078 recordings of AN4: there "
            f"are {len(utterances)}. To prepare them anyway, pass --noverify."
        )


def _known_sentences(utterances: Sequence[Utterance]) -> str:
    """Returns a remark on the test sentences that a language model of the training texts knows."""
    training = {utterance.text for utterance in utterances if utterance.split == "train"}
    test = [utterance.text for utterance in utterances if utterance.split == "test"]
    known = sum(text in training for text in test)
    return (
        f"{known} of {len(test)} test sentences are also training sentences, and a language model "
        "of the training texts knows them."
    )
