"""Audio data sets of the TensorFlow Datasets (TFDS) catalogue."""

import functools
import io
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import tensorflow_datasets as tfds

from gru_audio.audio.containers import CONTRADICTORY
from gru_audio.audio.io import Audio, BadAudio, decode
from gru_audio.data.datasets.clips import SKIP, Clip, ClipBuilder, problem_of_name
from gru_audio.data.datasets.records import STORED, kind_of
from gru_audio.data.fields import ClassField, EventsField, NumberField, TagsField, TextField
from gru_audio.data.index import UNKNOWN_LICENCE
from gru_audio.settings import UserError

_OWN = re.compile(r"[a-z]\w*(/[\w.-]+)?(:\d+\.\d+\.\d+)?")  # NAME/CONFIG:VERSION
INSTALL = 'pip install "gru-audio[tf]"'


class Catalogue(ClipBuilder):
    """A TFDS data set with one Audio feature.

    Its fields are the features with classes, sets of classes, texts, events or numbers; see
    `gru_audio.data.datasets.records`.
    """

    VERSION = tfds.core.Version("1.0.0")

    def __init__(
        self,
        *,
        data_dir: Path | str,
        dataset: str,
        name: str | None = None,
        rate: int | None = None,
        sample_rate: int | None = None,
        on_bad_file: str = SKIP,
    ):
        """Looks up the data set in TFDS; the preparation downloads it.

        Args:
          dataset: the name in TFDS: NAME, NAME/CONFIG or NAME:VERSION.
          name: the name of the prepared data set; by default tfds_ and `dataset`.
          rate: the sample rate of the original in Hz, if TFDS does not state it.
          sample_rate: of the prepared data set, in Hz; by default that of the original.

        Raises:
          UserError: TFDS has no such audio data set, or needs TensorFlow for it.
        """
        self._dataset = dataset
        info = self._builder(Path(data_dir)).info
        self.licence = info.redistribution_info.license or UNKNOWN_LICENCE
        features = info.features
        sounds = _of_type(features, tfds.features.Audio)
        if len(sounds) != 1:
            raise UserError(
                f"{dataset} of TFDS cannot be used: it has {len(sounds)} Audio features, not one."
            )
        self._audio = sounds[0]
        self._rate = rate or features[self._audio].sample_rate
        if not self._rate:
            raise UserError(f"TFDS does not know the rate of {dataset}: pass --rate, in Hz.")
        found = {name: kind_of(feature) for name, feature in features.items()}
        fields = {name: kind for name, kind in found.items() if kind and not problem_of_name(name)}
        # The first field is the default target, which is rarely a number.
        kinds = [ClassField, TagsField, EventsField, TextField, NumberField]
        self.fields = dict(sorted(fields.items(), key=lambda item: kinds.index(item[1])))
        self.name = name or catalogue_name(dataset)
        super().__init__(
            data_dir=data_dir,
            sample_rate=sample_rate or self._rate,
            on_bad_file=on_bad_file,
            dataset=dataset,
            rate=self._rate,
        )

    def clips(self, scratch: Path, downloads: Path) -> Sequence[Clip]:
        # Data sets that TFDS has prepared already are found where it is told to keep them.
        builder = self._builder(Path(os.environ.get("TFDS_DATA_DIR") or downloads / "tfds"))
        try:
            builder.download_and_prepare()
        except UserError:
            raise
        except Exception as error:  # TFDS builders raise errors of many kinds
            raise UserError(_explain(self._dataset, error)) from error
        self.verified = f"by TFDS: {builder.info.full_name}"
        return [clip for split in builder.info.splits for clip in self._of_split(builder, split)]

    def _of_split(self, builder: tfds.core.DatasetBuilder, split: str) -> list[Clip]:
        records = builder.as_data_source(split)
        without_sound = {self._audio: tfds.decode.SkipDecoding()}
        labels = builder.as_data_source(split, decoders=without_sound)
        features = builder.info.features
        return [
            Clip(
                name=f"{split}_{i:06d}",
                split=re.sub(r"\W", "_", split),
                labels={
                    name: STORED[kind].decode(row[name], features[name])
                    for name, kind in self.fields.items()
                },
                read=functools.partial(self._read, records, i, f"{split}_{i:06d}"),
            )
            for i, row in enumerate(labels)
        ]

    def _read(self, records: Sequence[Any], i: int, name: str, sample_rate: int) -> Audio:
        sound = records[i][self._audio]
        content = sound if isinstance(sound, bytes) else _wav(np.asarray(sound), self._rate, name)
        return decode(content, sample_rate, name=name)

    def _builder(self, data_dir: Path) -> tfds.core.DatasetBuilder:
        try:
            # Only the data sets of TFDS itself: for others it downloads or imports code.
            if not _OWN.fullmatch(self._dataset):
                raise tfds.core.DatasetNotFoundError(self._dataset)
            tfds.builder_cls(re.split("[/:]", self._dataset)[0])
            return tfds.builder(self._dataset, data_dir=data_dir, file_format="array_record")
        except Exception as error:  # TFDS builders raise errors of many kinds
            raise UserError(_explain(self._dataset, error)) from error


def catalogue_name(dataset: str) -> str:
    """Returns the default name of a prepared TFDS data set."""
    return "tfds_" + re.sub(r"\W+", "_", dataset)


def _of_type(features: tfds.features.FeaturesDict, kind: type) -> list[str]:
    return [name for name, feature in features.items() if type(feature) is kind]


def _explain(dataset: str, error: Exception) -> str:
    if isinstance(error, tfds.core.DatasetNotFoundError):
        return (
            f"TFDS has no data set {dataset}: see "
            "https://www.tensorflow.org/datasets/catalog/overview#audio."
        )
    if isinstance(error, ImportError):
        return f"TFDS cannot prepare {dataset} without TensorFlow ({error}): {INSTALL}."
    return f"TFDS cannot prepare {dataset}: {error}"


def _wav(samples: np.ndarray, rate: int, name: str) -> bytes:
    """Encodes samples as WAV, so that `decode` checks and converts all sounds.

    Integers are 16-bit samples, (n,) or (n, channels); other numbers are in [-1, 1).
    """
    if samples.dtype.kind in "iu":
        limits = np.iinfo(np.int16)
        if len(samples) and not limits.min <= samples.min() <= samples.max() <= limits.max:
            raise BadAudio(name, CONTRADICTORY)
        samples = samples.astype(np.int16)
    else:
        samples = samples.astype(np.float32)
    file = io.BytesIO()
    subtype = "PCM_16" if samples.dtype == np.int16 else "FLOAT"
    soundfile.write(file, samples, rate, format="WAV", subtype=subtype)
    return file.getvalue()
