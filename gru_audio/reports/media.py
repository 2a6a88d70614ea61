"""Sound and pictures as data URIs, small enough for a page that carries them itself."""

import base64
import io

import matplotlib.image
import numpy as np
import soundfile
import soxr

_MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)  # Hz
_LEVELS = 31  # of opacity: more cannot be told apart, and do not compress
_MOST_ROWS, _MOST_COLUMNS = 96, 500
_WAVEFORM_POINTS = 240


def mp3(samples: np.ndarray, rate: int) -> str:
    """A sound as MP3, which every browser plays.

    Args:
      samples: int16 (n,).
      rate: in Hz; one that MP3 does not know is converted to the next that it does.
    """
    playable = next((known for known in _MP3_RATES if known >= rate), _MP3_RATES[-1])
    if playable != rate:
        samples = soxr.resample(samples, rate, playable)
    file = io.BytesIO()
    soundfile.write(file, samples, playable, format="MP3")
    return _uri("audio/mpeg", file.getvalue())


def shade(values: np.ndarray) -> str:
    """A picture as black PNG whose opacity is the value: a dark page turns it to white.

    Args:
      values: (rows, columns) in [0, 1], the highest row first; means of neighbours where they
        are more than a page has room for.
    """
    values = _fewer(_fewer(values, _MOST_ROWS).T, _MOST_COLUMNS).T
    pixels = np.zeros((*values.shape, 4), np.uint8)
    pixels[..., 3] = (values * _LEVELS).round() * (255 / _LEVELS)
    file = io.BytesIO()
    matplotlib.image.imsave(file, pixels, format="png")
    return _uri("image/png", file.getvalue())


def waveform(samples: np.ndarray) -> str:
    """The outline of a sound (n,) as an SVG path that fills a box of 1000 x 100."""
    edges = np.linspace(0, len(samples), min(_WAVEFORM_POINTS, len(samples)) + 1).astype(int)[:-1]
    height = samples.astype(np.float64)
    height *= 48 / (np.abs(height).max() or 1)
    upper, lower = 50 - np.maximum.reduceat(height, edges), 50 - np.minimum.reduceat(height, edges)
    across = np.linspace(0, 1000, len(edges))
    there = [f"{x:.0f} {y:.1f}" for x, y in zip(across, upper, strict=True)]
    back = [f"{x:.0f} {y:.1f}" for x, y in zip(across[::-1], lower[::-1], strict=True)]
    return f"M{'L'.join(there + back)}Z"


def _fewer(values: np.ndarray, most: int) -> np.ndarray:
    """Values with at most so many rows: means of neighbouring ones."""
    if len(values) <= most:
        return values
    edges = np.linspace(0, len(values), most + 1).astype(int)
    sums = np.add.reduceat(values, edges[:-1], axis=0)
    return sums / np.diff(edges)[:, None]


def _uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
