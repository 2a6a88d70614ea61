"""Sound and pictures as data URIs that are small enough for a self-contained page."""

import base64
import io

import matplotlib.image
import numpy as np
import soundfile
import soxr

_MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)  # Hz
_LEVELS = 31  # levels of opacity: more are not visible and compress badly
_MOST_ROWS, _MOST_COLUMNS = 96, 500
_WAVEFORM_POINTS = 240


def mp3(samples: np.ndarray, rate: int) -> str:
    """Returns a sound as a data URI of MP3, which every browser plays.

    Args:
      samples: int16 (n,).
      rate: sampling rate in Hz. A rate that MP3 lacks is converted to the next higher one.
    """
    playable = next((known for known in _MP3_RATES if known >= rate), _MP3_RATES[-1])
    if playable != rate:
        samples = soxr.resample(samples, rate, playable)
    file = io.BytesIO()
    soundfile.write(file, samples, playable, format="MP3")
    return _uri("audio/mpeg", file.getvalue())


def shade(values: np.ndarray) -> str:
    """Returns a picture as a data URI of a black PNG whose opacity is the value.

    A dark page inverts it. Large pictures are reduced by averaging neighbours.

    Args:
      values: (rows, columns) in [0, 1], the highest row first.
    """
    values = _fewer(_fewer(values, _MOST_ROWS).T, _MOST_COLUMNS).T
    pixels = np.zeros((*values.shape, 4), np.uint8)
    pixels[..., 3] = (values * _LEVELS).round() * (255 / _LEVELS)
    file = io.BytesIO()
    matplotlib.image.imsave(file, pixels, format="png")
    return _uri("image/png", file.getvalue())


def waveform(samples: np.ndarray) -> str:
    """Returns the outline of a sound (n,) as an SVG path that fills a box of 1000 x 100."""
    edges = np.linspace(0, len(samples), min(_WAVEFORM_POINTS, len(samples)) + 1).astype(int)[:-1]
    height = samples.astype(np.float64)
    height *= 48 / (np.abs(height).max() or 1)
    upper, lower = 50 - np.maximum.reduceat(height, edges), 50 - np.minimum.reduceat(height, edges)
    across = np.linspace(0, 1000, len(edges))
    above = [f"{x:.0f} {y:.1f}" for x, y in zip(across, upper, strict=True)]
    below = [f"{x:.0f} {y:.1f}" for x, y in zip(across[::-1], lower[::-1], strict=True)]
    return f"M{'L'.join(above + below)}Z"


def _fewer(values: np.ndarray, most: int) -> np.ndarray:
    """Reduces values to at most `most` rows by averaging neighbouring rows."""
    if len(values) <= most:
        return values
    edges = np.linspace(0, len(values), most + 1).astype(int)
    sums = np.add.reduceat(values, edges[:-1], axis=0)
    return sums / np.diff(edges)[:, None]


def _uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
