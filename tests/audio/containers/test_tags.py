"""Tags of any kind and size before and after the sound have no effect."""

import numpy as np
import pytest

from gru_audio.audio.io import BadAudio, decode
from tests.sounds import encode

RATE = 24000
SAMPLES = np.random.default_rng(0).integers(-9000, 9000, 12000).astype(np.int16)
CODECS = {
    **{"WAV": "PCM_16", "AIFF": "PCM_16", "AU": "PCM_16", "CAF": "PCM_16", "FLAC": "PCM_16"},
    **{"OGG": "VORBIS", "MP3": "MPEG_LAYER_III"},
}


def id3v2(size: int) -> bytes:
    """Returns a tag with random bytes, as of a picture."""
    digits = bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\4\0\0" + digits + np.random.default_rng(size).bytes(size)


def ape(items: bytes) -> bytes:
    def part(flags: int) -> bytes:
        numbers = (2000, len(items) + 32, 1, flags)
        return b"APETAGEX" + b"".join(n.to_bytes(4, "little") for n in numbers) + bytes(8)

    return part(1 << 31 | 1 << 29) + items + part(1 << 31)


ID3V1 = b"TAG" + b"a title".ljust(125, b"\0")
LYRICS = b"LYRICSBEGIN" + b"la" * 300
TAILS = {
    "ID3v1": ID3V1,
    "APE": ape(b"\xff\xfb" * 5000),
    "APE without header": b"",
    "APE, ID3v1": ape(b"x" * 99) + ID3V1,
    "Lyrics3, ID3v1": LYRICS + b"%06dLYRICS200" % len(LYRICS) + ID3V1,
    "Lyrics3 1": LYRICS + b"LYRICSEND" + ID3V1,
    "zeros": bytes(512),
}


@pytest.fixture(scope="module")
def sounds():
    """Files and their samples, by format."""
    files = {form: encode(SAMPLES, RATE, form, codec) for form, codec in CODECS.items()}
    return {form: (data, decode(data, None).samples) for form, data in files.items()}


@pytest.mark.parametrize("form", CODECS)
@pytest.mark.parametrize("size", [0, 30_000, 100_000, 3_000_000])
def test_tags_before_the_sound(form, size, sounds):
    data, samples = sounds[form]
    np.testing.assert_array_equal(decode(id3v2(size) + data, None).samples, samples)
    np.testing.assert_array_equal(decode(id3v2(50) + id3v2(size) + data, None).samples, samples)


@pytest.mark.parametrize("form", CODECS)
@pytest.mark.parametrize("tail", TAILS)
def test_tags_after_the_sound(form, tail, sounds):
    data, samples = sounds[form]
    if tail == "APE without header":
        items = bytes(range(256)) * 9
        end = ape(items)[-32:]
        extra = items + end[:20] + bytes(4) + end[24:]  # the flags say that there is no header
    else:
        extra = TAILS[tail]
    np.testing.assert_array_equal(decode(data + extra, None).samples, samples)


def test_a_tag_longer_than_the_file_is_refused(sounds):
    with pytest.raises(BadAudio, match="truncated"):
        decode(id3v2(50_000)[:20_000], None)


def test_samples_that_look_like_a_tag_are_kept():
    samples = np.arange(1, 1001, dtype=np.int16)
    samples[-64:-62] = np.frombuffer(b"TAG\1", np.int16)
    for form in ("WAV", "AIFF", "AU", "CAF"):
        np.testing.assert_array_equal(
            decode(encode(samples, RATE, form), None).samples[:900], samples[:900]
        )
        assert len(decode(encode(samples, RATE, form), None).samples) == 1000


@pytest.mark.parametrize("size", [100, 1_000_000, 2**24 - 1])
def test_pictures_in_a_flac(size, sounds):
    data, samples = sounds["FLAC"]
    picture = b"\6" + size.to_bytes(3, "big") + np.random.default_rng(0).bytes(size)
    head = data[:4] + bytes([data[4] & 0x7F]) + data[5:42]
    np.testing.assert_array_equal(
        decode(head + picture + picture + data[42:], None).samples, samples
    )
