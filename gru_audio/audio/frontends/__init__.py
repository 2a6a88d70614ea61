"""The frontends that a config can select: they compute frames of features from sound."""

from collections.abc import Mapping

from ml_collections import ConfigDict

from gru_audio.audio.frontends.deltas import Deltas
from gru_audio.audio.frontends.frontend import Frontend
from gru_audio.audio.frontends.log_mel import LogMel
from gru_audio.audio.frontends.mfcc import Mfcc
from gru_audio.audio.frontends.pcen import Pcen
from gru_audio.audio.frontends.plain import RawFrames, Ready
from gru_audio.config import UserError, nearest

FRONTENDS: Mapping[str, type[LogMel] | type[Mfcc] | type[Pcen] | type[RawFrames]] = {
    "log_mel": LogMel,
    "mfcc": Mfcc,
    "pcen": Pcen,
    "raw": RawFrames,
}
READY = "frames"  # the name of what is no frontend


def make_frontend(config: ConfigDict, sample_rate: int, features: int | None = None) -> Frontend:
    """Returns the frontend `config.name`, with the deltas of `config.deltas`.

    Args:
      config: the `frontend` section of a config.
      sample_rate: of the sound in Hz; for a data set of frames, frames per second.
      features: values per frame, if the data set contains frames; None: it contains sound.

    Raises:
      UserError: the name is unknown or does not fit the data, or a value is out of range.
    """
    frontend = _without_deltas(config, sample_rate, features)
    if not config.deltas:
        return frontend
    if isinstance(frontend, RawFrames):
        raise UserError("config.frontend.deltas are of spectra: set them to 0 for raw frames.")
    return Deltas(frontend, config.deltas, config.delta_frames)


def _without_deltas(config: ConfigDict, sample_rate: int, features: int | None) -> Frontend:
    if (config.name == READY) != (features is not None):
        what = "sound" if features is None else "frames that need no frontend"
        kind = f"one of {', '.join(FRONTENDS)}" if features is None else READY
        raise UserError(f"The data set holds {what}: set config.frontend.name={kind}.")
    if features is not None:
        return Ready(sample_rate, features)
    if config.name not in FRONTENDS:
        raise UserError(f'Unknown frontend "{config.name}".{nearest(config.name, FRONTENDS)}')
    return FRONTENDS[config.name].from_config(config, sample_rate)
