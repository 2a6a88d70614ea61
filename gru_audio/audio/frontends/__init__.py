"""The frontends that a config can select: they compute frames of features from sound."""

from dataclasses import dataclass
from typing import Any

from ml_collections import ConfigDict

from gru_audio.audio.frontends.deltas import Deltas
from gru_audio.audio.frontends.frontend import Frontend
from gru_audio.audio.frontends.log_mel import LogMel
from gru_audio.audio.frontends.mfcc import Mfcc
from gru_audio.audio.frontends.pcen import Pcen
from gru_audio.audio.frontends.plain import RawFrames, Ready
from gru_audio.audio.frontends.samples import Samples
from gru_audio.audio.frontends.stack import Stacked
from gru_audio.settings import UserError, choose, make, setting

FRONTENDS: dict[str, Any] = {
    "log_mel": LogMel,
    "mfcc": Mfcc,
    "pcen": Pcen,
    "raw": RawFrames,
    "samples": Samples,
    "frames": Ready,
}


@dataclass(frozen=True)
class FrontendSettings:
    """The section `frontend` of a config: the settings of all frontends."""

    name: str = setting(
        "log_mel", choices=FRONTENDS, doc='The frontend; "frames" where the data set holds frames.'
    )
    normalise: bool = setting(
        True,
        doc="Normalise each feature by its mean and standard deviation over the training split.",
    )
    deltas: int = setting(
        0,
        low=0,
        high=2,
        when=("name", lambda name: FRONTENDS[name].takes_deltas),
        doc="1 adds the slope of each feature over time, 2 also its curvature.",
    )
    delta_frames: int = setting(
        4,
        low=1,
        high=100,
        unit="frames",
        when=("deltas", bool),
        doc="The slopes are fitted to this many frames on either side.",
    )
    stack: int = setting(
        1,
        low=1,
        high=64,
        unit="frames",
        doc="Frames that are concatenated to one, for fewer steps of the recurrent layers.",
    )


def make_frontend(config: ConfigDict, sample_rate: int, features: int | None = None) -> Frontend:
    """Returns the frontend `config.name`, with its deltas and stacked frames.

    Args:
      config: the `frontend` section of a config.
      sample_rate: of the sound in Hz; for a data set of frames, frames per second.
      features: values per frame, if the data set contains frames; None: it contains sound.

    Raises:
      UserError: the name is unknown or does not fit the data, or a value is out of range.
    """
    chosen = choose("frontend", config.name, FRONTENDS)
    if chosen.of_sound != (features is None):
        what = "sound" if features is None else "frames that need no frontend"
        suited = [name for name, other in FRONTENDS.items() if other.of_sound != chosen.of_sound]
        kind = f"one of {', '.join(suited)}" if suited[1:] else suited[0]
        raise UserError(f"The data set holds {what}: set config.frontend.name={kind}.")
    frontend = make(chosen, config, sample_rate=sample_rate, features=features)
    if config.get("deltas"):
        frontend = Deltas(frontend, config.deltas, config.delta_frames)
    return Stacked(frontend, config.stack) if config.get("stack", 1) > 1 else frontend
