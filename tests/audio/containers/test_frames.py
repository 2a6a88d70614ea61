"""FLAC, Ogg and MP3: the length in frames and pages against that in headers."""

import io
import struct
import tracemalloc

import numpy as np
import pytest
import soundfile

from gru_audio.audio.io import LONGEST, BadAudio, decode, decode_blocks, duration
from tests.sounds import encode, tone

RATE = 24000
NOISE = np.random.default_rng(0).integers(-9000, 9000, 30000).astype(np.int16)


def reason(data: bytes) -> str:
    with pytest.raises(BadAudio) as caught:
        decode(data, None)
    return caught.value.reason


def crc(data: bytes, polynomial: int, width: int) -> int:
    """Computes a CRC bit by bit, most significant bit first."""
    value = 0
    for byte in data:
        value ^= byte << width - 8
        for _ in range(8):
            value = value << 1 ^ (polynomial if value >> width - 1 else 0)
            value &= (1 << width) - 1
    return value


def ogg_crc(data: bytes) -> bytes:
    return crc(data, 0x04C11DB7, 32).to_bytes(4, "little")


def coded(number: int) -> bytes:
    """Encodes a number in the UTF-8 scheme."""
    return chr(number).encode() if number < 0xD800 else None


def flac(samples: int, frames: int, block: int = 32768, rate: int = 16000) -> bytes:
    """Returns a mono FLAC of constant frames, with 13 bytes for 32,768 samples each."""
    about = rate << 44 | 0 << 41 | 15 << 36 | samples
    info = struct.pack(">HH6sQ16s", block, block, bytes(6), about, bytes(16))
    file = io.BytesIO(b"fLaC\x80\0\0\x22" + info)
    file.seek(0, io.SEEK_END)
    for number in range(frames):
        head = b"\xff\xf8\xf0\x08" + coded(number)  # 256 << 7 samples; the rate of the stream
        head += crc(head, 0x07, 8).to_bytes(1, "big")
        frame = head + b"\0" + (100).to_bytes(2, "big")
        file.write(frame + crc(frame, 0x8005, 16).to_bytes(2, "big"))
    return file.getvalue()


def flac_total(data: bytes, total: int) -> bytes:
    packed = int.from_bytes(data[18:26], "big") >> 36 << 36 | total
    return data[:18] + packed.to_bytes(8, "big") + data[26:]


@pytest.mark.parametrize("total", [1, 4096, 8192, 20000, 29999])
def test_a_flac_longer_than_its_header_states_is_refused(total):
    assert reason(flac_total(encode(NOISE, RATE, "FLAC"), total)) == "contradictory header"


@pytest.mark.parametrize("total", [30001, 40000, 2**36 - 1])
def test_a_flac_shorter_than_its_header_states_is_refused(total):
    assert reason(flac_total(encode(NOISE, RATE, "FLAC"), total)) == "truncated"


def test_a_flac_from_a_pipe_has_no_length_and_is_read_to_its_end(tmp_path):
    for samples in (NOISE, NOISE[:100], np.stack([NOISE, NOISE], axis=1)):
        data = flac_total(encode(samples, RATE, "FLAC"), 0)
        expected = samples if samples.ndim == 1 else samples[:, 0]
        np.testing.assert_array_equal(decode(data, None).samples, expected)
        part = decode(data, None, start=50 / RATE, end=90 / RATE)
        np.testing.assert_array_equal(part.samples, expected[50:90])
    for cut in (1, 100, 5000):
        assert reason(data[:-cut]) == "truncated"


def test_a_flac_that_decompresses_to_hours_needs_no_memory(tmp_path):
    frames = LONGEST // 32768 + 1
    small, path = flac(3 * 32768, 3), tmp_path / "long.flac"
    with soundfile.SoundFile(io.BytesIO(small)) as sound:
        assert (sound.read(dtype="int16") == 100).all()
    np.testing.assert_array_equal(decode(small, None).samples, np.full(3 * 32768, 100))
    path.write_bytes(flac(frames * 32768, frames))
    assert path.stat().st_size < 60_000
    tracemalloc.start()
    try:
        with pytest.raises(BadAudio, match="too long for one clip: cut it, or list its parts"):
            decode(path, 16000)
        assert tracemalloc.get_traced_memory()[1] < 2**20
        assert duration(path) == frames * 32768 / 16000
        assert len(decode(path, 16000, start=8000, end=8001).samples) == 16000
        blocks = decode_blocks(path, 48000)
        assert max(len(next(blocks)) for _ in range(5)) <= 2**20 + 48000
        assert tracemalloc.get_traced_memory()[1] < 50 * 2**20
    finally:
        tracemalloc.stop()
    with pytest.raises(BadAudio, match="too long"):  # the decoded length counts
        decode(flac(40 * 32768, 40, rate=100), 16000)


def test_blocks_of_many_channels_are_short(tmp_path):
    path = tmp_path / "wide.wav"
    soundfile.write(path, np.ones((3000, 1000), np.int16), 8000)
    sizes = [len(block) for block in decode_blocks(path, 8000)]
    assert sum(sizes) == 3000
    assert max(sizes) * 1000 <= 2**20


def pages(data: bytes) -> list[bytearray]:
    """Returns the pages of an Ogg file."""
    found, at = [], 0
    while at < len(data):
        segments = data[at + 26]
        length = 27 + segments + sum(data[at + 27 : at + 27 + segments])
        found.append(bytearray(data[at : at + length]))
        at += length
    return found


def signed(pages: list[bytearray]) -> bytes:
    for page in pages:
        page[22:26] = bytes(4)
        page[22:26] = ogg_crc(bytes(page))
    return b"".join(pages)


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_the_last_page_of_an_ogg_states_its_length(subtype):
    noise = np.random.default_rng(0).normal(0, 0.2, 4 * RATE)
    whole = encode(noise, RATE, "OGG", subtype)
    heard = decode(whole, None).samples
    assert len(heard) == 4 * RATE
    assert len(pages(whole)) > 4

    def moved(by: int) -> bytes:
        changed = pages(whole)
        time = int.from_bytes(changed[-1][6:14], "little")
        changed[-1][6:14] = (time + by).to_bytes(8, "little")
        return signed(changed)

    fewer = 480 if subtype == "VORBIS" else 240  # Opus counts at 48 kHz
    np.testing.assert_array_equal(decode(moved(-480), None).samples, heard[:-fewer])
    assert reason(moved(5000)) == "truncated"


@pytest.mark.parametrize(("subtype", "lost"), [("VORBIS", 0), ("OPUS", 200)])
def test_a_stream_cut_from_a_longer_one_is_read(subtype, lost):
    noise = np.random.default_rng(0).normal(0, 0.2, 4 * RATE)
    whole = encode(noise, RATE, "OGG", subtype)
    changed = pages(whole)
    for page in changed:
        time = int.from_bytes(page[6:14], "little", signed=True)
        if time > 0:
            page[6:14] = (time + 1_000_000).to_bytes(8, "little")
    heard, expected = (decode(data, None).samples for data in (signed(changed), whole))
    assert len(heard) == len(expected)
    shift = np.argmax(np.correlate(heard[:8000].astype(float), expected[1000:5000])) - 1000
    assert 0 <= shift <= lost  # libsndfile does not skip the pre-skip of Opus
    np.testing.assert_allclose(heard[shift + 50 :], expected[50 : len(heard) - shift], atol=2)


@pytest.mark.parametrize(
    ("said", "rate"),
    [(0, 48000), (8000, 8000), (11025, 12000), (22050, 24000), (32000, 48000), (44100, 48000)],
)
def test_opus_is_decoded_at_least_at_its_stated_rate(said, rate):
    changed = pages(encode(tone(1.0, 48000, 6000), 48000, "OGG", "OPUS"))
    at = changed[0].index(b"OpusHead") + 12
    changed[0][at : at + 4] = said.to_bytes(4, "little")
    audio = decode(signed(changed), None)
    assert (audio.file_rate, len(audio.samples)) == (rate, rate)
    if said == 0:  # unknown: nothing is lost
        spectrum = np.abs(np.fft.rfft(audio.samples[10000:34000] * np.hanning(24000)))
        assert np.argmax(spectrum) * 2 == 6000


def test_two_streams_side_by_side_are_refused():
    one, two = (pages(encode(tone(1.0, RATE, f), RATE, "OGG", "VORBIS")) for f in (300, 500))
    for page in two:
        page[14:18] = b"ABCD"
    assert reason(signed([one[0], two[0], *one[1:], *two[1:]])) == "several streams in one file"


def varying(seconds: int, rate: int) -> np.ndarray:
    """Returns sound that is alternately loud and silent."""
    time = np.arange(seconds * rate) / rate
    loud = np.sin(2 * np.pi * 0.7 * time) > 0
    return (0.1 * loud + 0.001) * np.random.default_rng(1).standard_normal(len(time))


def frame_sizes(data: bytes) -> list[int]:
    """Returns the frame sizes in bytes of an MP3 of version 1 or 2, by the standard's tables."""
    sizes, at = [], 0
    kbps = {
        3: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
        2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    }
    rates = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000)}
    while at < len(data):
        version, third = data[at + 1] >> 3 & 3, data[at + 2]
        rate = rates[version][third >> 2 & 3]
        sizes.append(
            (144 if version == 3 else 72) * 1000 * kbps[version][third >> 4] // rate
            + (third >> 1 & 1)
        )
        at += sizes[-1]
    return sizes


@pytest.mark.parametrize("rate", [16000, 24000, 44100, 48000])
@pytest.mark.parametrize("tag", [0, 50_000])
def test_an_mp3_of_variable_rate_without_a_header_is_read_to_its_end(rate, tag, tmp_path):
    with_header = encode(varying(6, rate), rate, "MP3", "MPEG_LAYER_III")
    assert len(decode(with_header, None).samples) == 6 * rate
    sizes = frame_sizes(with_header)
    assert len(set(sizes)) > 3
    name = b"ID3\4\0\0" + bytes(tag >> shift & 0x7F for shift in (21, 14, 7, 0)) + bytes(tag)
    stream = with_header[sizes[0] :]
    granules = (len(sizes) - 1) * (1152 if rate > 24000 else 576)
    for data in (stream, name + stream):
        heard = decode(data, None).samples
        assert granules - 1152 < len(heard) <= granules
        reference = decode(with_header, None).samples.astype(float)
        shift = np.argmax(np.correlate(heard[: 3 * 1152 + 8000].astype(float), reference[:8000]))
        assert shift < 3 * 1152
        np.testing.assert_allclose(
            heard[shift + 2000 : shift + 5 * rate], reference[2000 : 5 * rate], atol=2
        )
        part = decode(data, None, start=2.0, end=3.0).samples
        np.testing.assert_allclose(part, heard[2 * rate : 3 * rate], atol=1)

    whole = (tmp_path / "sound.mp3", name + stream)
    whole[0].write_bytes(whole[1])
    assert duration(whole[0]) * rate == len(heard)
    assert reason(stream[:-1]) == "truncated"
    assert reason(stream + with_header[:3]) == "truncated"
    lost = sum(sizes[1:40])
    assert reason(stream[:lost] + b"no frame" + stream[lost:]) == "damaged"
    assert reason(with_header[: -sizes[-1]]) == "truncated"
    fewer, more = stream[: -sum(sizes[-30:])], stream + stream
    assert reason(with_header[: sizes[0]] + fewer) == "truncated"
    assert reason(with_header[: sizes[0]] + more) == "contradictory header"


def test_a_header_that_counts_itself_is_accepted_if_its_bytes_are_right():
    whole = bytearray(encode(varying(3, 24000), 24000, "MP3", "MPEG_LAYER_III"))
    sizes = frame_sizes(whole)
    at = whole.index(b"Xing") + 8
    frames, size = (int.from_bytes(whole[at + 4 * i : at + 4 * i + 4], "big") for i in (0, 1))
    assert (frames, size) == (len(sizes) - 1, len(whole))
    whole[at : at + 4] = (frames + 1).to_bytes(4, "big")
    assert len(decode(bytes(whole), None).samples) == frames * 576 - 529
    assert reason(bytes(whole[: -sizes[-1]])) == "truncated"
    whole[at + 4 : at + 8] = (size + 1000).to_bytes(4, "big")
    assert reason(bytes(whole)) == "truncated"


def test_a_vbri_header_counts_frames():
    with_header = encode(varying(3, 24000), 24000, "MP3", "MPEG_LAYER_III")
    sizes = frame_sizes(with_header)
    stream = with_header[sizes[0] :]
    head = bytearray(with_header[: sizes[0]])
    head[4:] = bytes(len(head) - 4)
    head[36:40] = b"VBRI"
    head[50:54] = (len(sizes) - 1).to_bytes(4, "big")
    whole = decode(bytes(head) + stream, None).samples
    np.testing.assert_array_equal(whole, decode(stream, None).samples)
    assert reason(bytes(head) + stream[: -sum(sizes[-30:])]) == "truncated"


def test_frames_of_layer_two_are_counted(tmp_path):
    """A frame without bit allocation is silent: 160 and 32 kbit/s at 48 kHz, 1152 samples each."""
    large, small = (b"\xff\xfd" + bytes([code << 4 | 4, 0xC4]) for code in (9, 1))
    data = large.ljust(480, b"\0") * 10 + large.ljust(480, b"\0") * 30
    path = tmp_path / "sound.mp2"
    path.write_bytes(data)
    assert duration(path) == 40 * 1152 / 48000
    path.write_bytes(small.ljust(96, b"\0") * 20 + data)
    try:  # libsndfile estimates the length from the first frame
        assert duration(path) == 60 * 1152 / 48000
    except BadAudio as error:
        assert error.reason in ("contradictory header", "truncated")
