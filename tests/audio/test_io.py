"""Decoding against float64 arithmetic, damaged files, and sample rates of users."""

import contextlib
import io
import math
import os
import socket
import struct

import numpy as np
import pytest
import scipy.signal
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from gru_audio.audio.io import BadAudio, check_rate, convert, decode, decode_blocks, duration
from gru_audio.settings import UserError
from tests.sounds import RATE, encode, tone

LOSSLESS = [
    ("WAV", "PCM_16", 1),
    ("WAV", "PCM_24", 1),
    ("WAV", "PCM_32", 1),
    ("WAV", "FLOAT", 1),
    ("WAV", "DOUBLE", 1),
    ("WAVEX", "PCM_16", 1),
    ("AIFF", "PCM_16", 1),
    ("FLAC", "PCM_16", 1),
    ("FLAC", "PCM_24", 1),
    ("WAV", "PCM_U8", 257),
]
LOSSY = [("WAV", "ULAW"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")]
CHECKED = [
    ("WAV", "PCM_U8"),
    ("WAV", "PCM_16"),
    ("WAV", "FLOAT"),
    ("WAVEX", "PCM_24"),
    ("WAV", "GSM610"),
    ("RF64", "PCM_16"),
    ("W64", "PCM_16"),
    ("AIFF", "PCM_16"),
    ("AU", "ULAW"),
    ("CAF", "PCM_24"),
    ("CAF", "ALAC_16"),
    ("NIST", "PCM_16"),
    ("FLAC", "PCM_16"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"),
]


def reason(source, **options) -> str:
    with pytest.raises(BadAudio) as caught:
        decode(source, RATE, name="clip", **options)
    assert caught.value.path == "clip"
    assert "clip" in str(caught.value)
    return caught.value.reason


@pytest.mark.parametrize(("form", "subtype", "tolerance"), LOSSLESS)
def test_lossless_formats_keep_the_samples(form, subtype, tolerance):
    samples = tone()
    audio = decode(encode(samples, RATE, form, subtype), RATE)
    assert audio.samples.dtype == np.int16
    assert (audio.sample_rate, audio.file_rate) == (RATE, RATE)
    np.testing.assert_allclose(audio.samples, samples.astype(float) * 32768, atol=tolerance)


def test_sixteen_bit_samples_are_unchanged():
    samples = np.random.default_rng(0).integers(-32768, 32768, 5000).astype(np.int16)
    np.testing.assert_array_equal(decode(encode(samples), None).samples, samples)


@pytest.mark.parametrize(("form", "subtype"), LOSSY)
def test_lossy_formats_are_close(form, subtype):
    samples = tone(0.5, 24000)
    heard = decode(encode(samples, 24000, form, subtype), None).samples
    middle = slice(4000, 8000)
    spectrum = np.abs(np.fft.rfft(heard[middle] / 32768 * np.hanning(4000)))
    assert np.argmax(spectrum) * 24000 / 4000 == pytest.approx(440, abs=6)
    assert np.std(heard[middle] / 32768) == pytest.approx(np.std(samples[middle]), rel=0.1)


def test_channels_are_averaged():
    left, right = tone(frequency=300), tone(frequency=500)
    audio = decode(encode(np.stack([left, right], axis=1), subtype="FLOAT"), None)
    expected = (left.astype(float) + right) / 2 * 32768
    np.testing.assert_allclose(audio.samples, expected, atol=0.51)


@pytest.mark.parametrize("rate", [8000, 11025, 44100, 48000])
def test_resampling_agrees_with_a_fourier_resampler(rate):
    samples = tone(1.0, rate, frequency=440) * np.hanning(rate).astype(np.float32)
    audio = decode(encode(samples, rate, subtype="FLOAT"), RATE)
    assert (len(audio.samples), audio.file_rate) == (RATE, rate)
    expected = scipy.signal.resample(samples.astype(float), RATE) * 32768
    np.testing.assert_allclose(audio.samples, expected, atol=8)


def test_values_beyond_full_scale_are_clipped():
    samples = np.array([0.5, 1.5, -1.5, 1.0, -1.0], np.float32)
    audio = decode(encode(samples, subtype="FLOAT"), None)
    assert audio.samples.tolist() == [16384, 32767, -32768, 32767, -32768]


@given(start=st.integers(0, 3000), length=st.integers(1, 1000))
@settings(max_examples=30, deadline=None)
def test_a_part_equals_that_of_the_whole(start, length):
    samples = np.arange(1, 4001, dtype=np.int16)
    for form in ("WAV", "FLAC"):
        part = decode(
            encode(samples, 8000, form), None, start=start / 8000, end=(start + length) / 8000
        )
        np.testing.assert_array_equal(part.samples, samples[start : start + length])


@pytest.mark.parametrize(
    ("form", "channels", "tolerance"), [("WAV", 1, 0), ("FLAC", 2, 0), ("MP3", 1, 1)]
)
@pytest.mark.parametrize("rate", [8000, 44100])
def test_concatenated_blocks_equal_the_whole(form, channels, tolerance, rate, tmp_path):
    seconds = 2.2 * 2**20 / rate  # more than two blocks
    noise = np.random.default_rng(0).normal(0, 0.2, (round(seconds * rate), channels))
    path = tmp_path / "long"
    soundfile.write(path, noise, rate, format=form)
    assert duration(path) == pytest.approx(seconds, abs=1e-3)
    blocks = list(decode_blocks(path, 16000))
    assert max(map(len, blocks)) < 2**20 * 16000 / rate + rate
    whole = decode(path, 16000).samples
    np.testing.assert_allclose(np.concatenate(blocks), whole, rtol=0, atol=tolerance)


@given(borders=st.lists(st.integers(0, 9000), max_size=20), rate=st.sampled_from([8000, 22050]))
@settings(max_examples=30, deadline=None)
def test_resampling_does_not_depend_on_block_borders(borders, rate):
    sound = np.random.default_rng(0).normal(0, 0.2, (9000, 2)).astype(np.float32)
    parts = convert(np.split(sound, sorted(borders)), rate, RATE)
    whole = decode(encode(sound, rate, subtype="FLOAT"), RATE).samples
    np.testing.assert_array_equal(np.concatenate(list(parts)), whole)


def test_the_blocks_before_damage_are_returned(tmp_path):
    path = tmp_path / "long.flac"
    noise = np.random.default_rng(0).normal(0, 0.2, 3 * 2**20)
    data = encode(noise, RATE, "FLAC")
    path.write_bytes(data[: len(data) // 2])
    blocks = decode_blocks(path, RATE)
    np.testing.assert_array_equal(next(blocks), decode(data, RATE, end=2**20 / RATE).samples)
    with pytest.raises(BadAudio, match=r"long\.flac: truncated"):
        list(blocks)

    noise[2**20] = np.inf
    path.write_bytes(encode(noise, RATE, subtype="FLOAT"))
    blocks = decode_blocks(path, RATE)
    assert len(next(blocks)) == 2**20
    with pytest.raises(BadAudio, match="non-finite"):
        next(blocks)


@pytest.mark.parametrize("data", [b"", b"RIFF" + bytes(2), b"no sound at all"])
def test_a_file_that_is_not_audio_has_neither_duration_nor_blocks(data, tmp_path):
    (tmp_path / "file").write_bytes(data)
    expected = reason(data)
    for read in (duration, lambda path: next(decode_blocks(path, RATE))):
        with pytest.raises(BadAudio, match=expected):
            read(tmp_path / "file")


@pytest.mark.parametrize(("form", "subtype"), CHECKED)
def test_a_truncated_file_is_refused(form, subtype, capfd):
    channels = 1 if subtype == "GSM610" else 2
    whole = encode(np.stack([tone(0.5, 24000)] * channels, axis=1), 24000, form, subtype)

    @given(share=st.floats(0, 1, exclude_max=True))
    @settings(max_examples=60, deadline=None)
    def cut(share):
        if subtype.startswith("ALAC") and int(share * len(whole)) == len(whole) - 1:
            return  # a byte that makes the length even
        found = reason(whole[: int(share * len(whole))])
        assert found in ("truncated", "empty", "not audio")
        assert (found == "empty") == (int(share * len(whole)) == 0)

    cut()
    assert reason(whole[: len(whole) // 2]) == "truncated"


@given(share=st.floats(0.2, 1))
@settings(max_examples=20, deadline=None)
def test_a_cut_mp3_without_a_header_is_read_to_its_last_frame_or_refused(share):
    file = io.BytesIO()
    constant = {"bitrate_mode": "CONSTANT", "compression_level": 0.5}
    soundfile.write(file, tone(1.0, 24000), 24000, format="MP3", **constant)
    whole = file.getvalue()
    stream = whole[whole.index(whole[:2], 4) :]  # the first frame holds the length
    try:
        samples = decode(stream[: int(share * len(stream))], None).samples
    except BadAudio as error:
        assert error.reason == "truncated"
        return
    assert len(samples) == pytest.approx(share * 24000, abs=4 * 576)


def test_a_wav_written_to_a_pipe_has_no_length_and_is_read_to_its_end():
    samples = np.arange(1, 1001, dtype=np.int16)
    data = bytearray(encode(samples))
    at = data.index(b"data") + 4
    data[at : at + 4] = b"\xff\xff\xff\xff"
    np.testing.assert_array_equal(decode(bytes(data), None).samples, samples)


def test_a_huge_stated_length_needs_no_memory():
    data = bytearray(encode(tone(), form="W64"))
    at = data.index(b"data\xf3\xac\xd3\x11") + 16
    data[at : at + 8] = (2**45).to_bytes(8, "little")
    try:
        assert len(decode(bytes(data), None).samples) == len(tone())
    except BadAudio as error:
        assert error.reason in ("truncated", "not audio")


@pytest.mark.parametrize(
    ("offset", "format"),
    [(2, "<H"), (4, "<I"), (8, "<I"), (12, "<H"), (14, "<H")],
    ids=["channels", "rate", "byte rate", "block align", "bits"],
)
def test_a_wav_header_that_contradicts_itself_is_refused(offset, format):
    for subtype in ("PCM_16", "FLOAT", "ULAW"):
        data = bytearray(encode(tone(), subtype=subtype))
        at = data.index(b"fmt ") + 8 + offset
        value = struct.unpack_from(format, data, at)[0]
        struct.pack_into(format, data, at, 2 * value)
        assert reason(bytes(data)) == "contradictory header"


def test_an_impossible_rate_is_refused():
    assert reason(encode(tone(), rate=7)) == "contradictory header"


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_any_flipped_bit_of_an_ogg_is_detected(subtype):
    whole = encode(tone(0.5, 24000), 24000, "OGG", subtype)

    @given(bit=st.integers(0, 8 * len(whole) - 1))
    @settings(max_examples=200, deadline=None)
    def flip(bit):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        assert reason(bytes(data)) in ("damaged", "truncated", "not audio")

    flip()


def test_a_lost_page_of_an_ogg_is_detected():
    whole = encode(np.random.default_rng(0).normal(0, 0.2, 48000), 24000, "OGG", "VORBIS")
    pages = [b"OggS" + page for page in whole.split(b"OggS")[1:]]
    assert len(pages) > 4
    assert reason(b"".join(pages[:3] + pages[4:])) == "damaged"


def test_a_flipped_bit_of_a_flac_is_refused_or_changes_nothing():
    samples = np.random.default_rng(0).integers(-9000, 9000, 8000).astype(np.int16)
    whole = encode(samples, RATE, "FLAC")

    @given(bit=st.integers(8 * 42, 8 * len(whole) - 1))  # 42 bytes: the magic and STREAMINFO
    @settings(max_examples=200, deadline=None)
    def flip(bit):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        with contextlib.suppress(BadAudio):
            np.testing.assert_array_equal(decode(bytes(data), None).samples, samples)

    flip()


def test_a_flac_whose_frames_have_another_rate_than_its_header_is_refused():
    data = bytearray(encode(tone(), RATE, "FLAC"))
    data[18] ^= 0x40  # bytes 18 to 20: rate
    assert reason(bytes(data)) == "contradictory header"


@pytest.mark.parametrize("rate", [8000, 24000, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_only_silence_that_an_mp3_states_is_accepted(rate, channels, capfd):
    samples = np.random.default_rng(0).normal(0, 0.1, (rate, channels))
    whole = encode(samples, rate, "MP3", "MPEG_LAYER_III")
    assert len(decode(whole, None).samples) == rate

    # A frame in the middle states an impossible number of values.
    frame = whole.rindex(whole[:2], 0, len(whole) // 2)
    version_1 = rate > 24000
    first = {(True, 1): 18, (True, 2): 20, (False, 1): 9, (False, 2): 10}[version_1, channels]
    damaged = bytearray(whole)
    for granule_and_channel in range(channels * (1 + version_1)):
        begin = 32 + first + granule_and_channel * (59 if version_1 else 63) + 12
        for bit in range(8 * frame + begin, 8 * frame + begin + 9):
            damaged[bit // 8] |= 0x80 >> bit % 8
    assert reason(bytes(damaged)) in ("damaged", "truncated")

    samples[rate // 4 : rate // 2] = 0
    silent = decode(encode(samples, rate, "MP3", "MPEG_LAYER_III"), None).samples
    assert np.mean(silent == 0) > 0.15


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "empty"),
        (encode(np.zeros(0, np.float32)), "empty"),
        (encode(np.zeros(1000, np.float32)), "silent"),
        (encode(np.full(1000, 1e-9, np.float32), subtype="FLOAT"), "silent"),
        (encode(np.array([0.1, np.nan, 0.1], np.float32), subtype="FLOAT"), "non-finite"),
        (encode(np.array([0.1, np.inf, 0.1], np.float32), subtype="FLOAT"), "non-finite"),
        (encode(np.array([0.1, 1e300, 0.1]), subtype="DOUBLE"), "non-finite"),
        (b"a note about the recordings\n" * 50, "not audio"),
        (b"RIFF" + bytes(2), "not audio"),
        (b"ID3" + bytes(500), "not audio"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_files_have_a_reason(data, expected):
    if data.startswith(b"RIFF") and len(data) < 12:
        expected = "truncated"
    assert reason(data) == expected


def test_a_part_outside_the_file_has_a_reason():
    data = encode(tone(0.5))
    assert reason(data, start=0.4, end=0.6) == "truncated"
    assert reason(data, start=0.6) == "empty"


@pytest.mark.parametrize("end", [0.5001, 0.501, 0.51, 0.5 + 1e-9, 0.549])
@pytest.mark.parametrize("form", ["WAV", "FLAC"])
def test_an_end_may_exceed_the_file_by_rounding(end, form):
    data = encode(tone(0.5), form=form)
    part = decode(data, RATE, start=0.3, end=end).samples
    np.testing.assert_array_equal(part, decode(data, RATE).samples[round(0.3 * RATE) :])


def test_only_regular_files_are_opened(tmp_path):
    (tmp_path / "folder.wav").mkdir()
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "link.wav").symlink_to(tmp_path / "pipe.wav")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(tmp_path / "socket.wav"))
    with listening:
        for path in (*sorted(tmp_path.iterdir()), "/dev/zero", "/dev/stdin"):
            for read in (
                lambda path: decode(path, RATE),
                duration,
                lambda path: next(decode_blocks(path, RATE)),
            ):
                with pytest.raises(BadAudio, match=f"{path}: not a regular file"):
                    read(path)


def test_a_name_with_nul_is_refused(tmp_path):
    for read in (lambda path: decode(path, RATE), duration):
        with pytest.raises(FileNotFoundError, match="NUL"):
            read(str(tmp_path / "a\0b.wav"))


@given(st.binary(max_size=400), st.sampled_from([b"", b"RIFF", b"OggS", b"fLaC", b"FORM", b"ID3"]))
@settings(max_examples=200, deadline=None)
def test_noise_is_refused_or_decoded_but_never_crashes(data, magic):
    try:
        audio = decode(magic + data, RATE)
    except BadAudio:
        return
    assert len(audio.samples)


def test_paths_are_named_and_missing_files_are_os_errors(tmp_path):
    path = tmp_path / "clip.raw"  # an ending that soundfile takes for headerless samples
    path.write_bytes(b"not a sound")
    with pytest.raises(BadAudio, match=r"clip\.raw: not audio"):
        decode(path, RATE)
    path = tmp_path / "clip.wav"
    path.write_bytes(encode(tone()))
    assert len(decode(str(path), 8000).samples) == len(tone()) // 2
    with pytest.raises(FileNotFoundError):
        decode(tmp_path / "absent.wav", RATE)


@pytest.mark.parametrize("rate", [400, 8000, 11025, 44100.0, 192000, 1_000_000])
def test_rates_in_hz_are_accepted(rate):
    check_rate(rate)


@pytest.mark.parametrize(
    ("rate", "hint"), [(8, 8000), (16, 16000), (11.025, 11025), (44.1, 44100), (192, 192000)]
)
def test_a_rate_in_khz_gets_a_hint(rate, hint):
    with pytest.raises(UserError, match=rf"not {rate}\. Did you mean {hint}\?"):
        check_rate(rate)


@pytest.mark.parametrize("rate", [0, -16, 0.25, 8000.5, 1_000_001, 1e9, math.inf, math.nan])
def test_other_rates_are_refused(rate):
    with pytest.raises(UserError, match="from 400 to 1000000") as caught:
        check_rate(rate)
    assert "mean" not in str(caught.value)
