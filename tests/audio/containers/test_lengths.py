"""The length of a file: all samples are decoded, or the file is refused with a reason."""

import contextlib
import io
import struct

import numpy as np
import pytest
import scipy.io.wavfile
import soundfile

from gru_audio.audio.io import BadAudio, decode, duration
from tests.sounds import encode

RATE = 24000
SAMPLES = np.random.default_rng(0).integers(-9000, 9000, 12000).astype(np.int16)
FORMS = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "NIST", "OGG", "FLAC", "MP3")


def both_ways(form: str, subtype: str, channels: int) -> bool:
    """Returns whether libsndfile can write and read this encoding."""
    try:
        data = encode(np.stack([SAMPLES[:2000]] * channels, 1), RATE, form, subtype)
        with soundfile.SoundFile(io.BytesIO(data)) as sound:
            return len(sound.read(1000)) == 1000
    except soundfile.LibsndfileError:
        return False


ENCODINGS = [
    (form, subtype, channels)
    for form in FORMS
    for subtype in soundfile.available_subtypes(form)
    for channels in (1, 2)
    if both_ways(form, subtype, channels)
]
# Bytes of a size, its place behind a mark, and their order.
SIZES = {"WAV": (b"data", 4, "little"), "AIFF": (b"SSND", 4, "big"), "AU": (b".snd", 8, "big")}


def reason(data: bytes) -> str:
    with pytest.raises(BadAudio) as caught:
        decode(data, None)
    return caught.value.reason


def resized(data: bytes, form: str, size: int) -> bytes:
    mark, offset, order = SIZES[form]
    at = data.index(mark) + offset
    return data[:at] + size.to_bytes(4, order) + data[at + 4 :]


@pytest.mark.parametrize(("form", "subtype", "channels"), ENCODINGS)
def test_every_encoding_has_the_samples_of_libsndfile(form, subtype, channels):
    data = encode(np.stack([SAMPLES] * channels, 1), RATE, form, subtype)
    with soundfile.SoundFile(io.BytesIO(data)) as sound:
        heard = sound.read(sound.frames, dtype="float32", always_2d=True).mean(axis=1)
    audio = decode(data, None)
    padding = {"IMA_ADPCM": 1024, "MS_ADPCM": 1024, "GSM610": 640}.get(subtype, 0)
    assert len(SAMPLES) <= len(audio.samples) <= len(heard) <= len(SAMPLES) + padding
    expected = np.clip(np.rint(heard * 32768), -32768, 32767)[: len(audio.samples)]
    np.testing.assert_array_equal(audio.samples, expected)
    part = decode(data, None, start=0.1, end=0.3)
    tolerance = 1 if form == "MP3" else 0
    np.testing.assert_allclose(part.samples, audio.samples[2400:7200], rtol=0, atol=tolerance)

    for share in (0.4, 0.9, 0.999):
        assert reason(data[: int(share * len(data))]) == "truncated"


@pytest.mark.parametrize("form", SIZES)
@pytest.mark.parametrize(
    "size",
    [0, 0x7F000000, 0x7FFFF000, 0x7FFFFFDB, 0x80000000, 0x80000024, 0xFFFFFF00, 0xFFFFFFFF],
)
def test_an_unknown_size_of_a_pipe_means_to_the_end(form, size):
    data = resized(encode(SAMPLES, RATE, form), form, size)
    np.testing.assert_array_equal(decode(data, None).samples, SAMPLES)


@pytest.mark.parametrize("form", SIZES)
@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_a_size_below_that_of_the_samples_is_refused(form, share):
    data = resized(encode(SAMPLES, RATE, form), form, int(share * SAMPLES.nbytes) // 2 * 2)
    assert reason(data) == "contradictory header"


@pytest.mark.parametrize("form", SIZES)
@pytest.mark.parametrize("size", [SAMPLES.nbytes + 10, 2 * SAMPLES.nbytes, 0x40000000, 0xB0000000])
def test_a_size_above_that_of_the_file_is_refused(form, size):
    assert reason(resized(encode(SAMPLES, RATE, form), form, size)) == "truncated"


@pytest.mark.parametrize("form", ["WAV", "RF64", "W64", "AIFF", "CAF", "AU", "FLAC", "OGG", "MP3"])
def test_two_concatenated_files_are_refused(form):
    subtype = {"OGG": "VORBIS", "MP3": "MPEG_LAYER_III"}.get(form, "PCM_16")
    one, two = (encode(SAMPLES[:n], RATE, form, subtype) for n in (12000, 7000))
    for data in (one + one, one + two):
        assert reason(data) in (
            *("contradictory header", "truncated", "several streams in one file"),
        )


def test_chunks_after_the_samples_are_not_decoded():
    text = b"a comment of odd length"
    for padding in (b"\0", b""):  # some programs omit it
        chunk = b"LIST" + struct.pack("<I", len(text)) + text + padding
        wav = encode(SAMPLES, RATE) + chunk
        np.testing.assert_array_equal(decode(wav, None).samples, SAMPLES)
        eight = encode(SAMPLES[:999], RATE, subtype="PCM_U8")  # an odd number of bytes
        whole = decode(eight, None).samples
        np.testing.assert_array_equal(
            decode(eight[: 44 + 999] + padding + chunk, None).samples, whole
        )
    assert reason(wav[:-3]) == "truncated"
    empty = resized(encode(SAMPLES[:0], RATE), "WAV", 0) + chunk + b"\0"
    assert reason(empty) == "empty"


def test_long_wav_files_may_have_their_size_in_another_chunk():
    data = bytearray(encode(SAMPLES, RATE, "RF64"))
    at = data.index(b"ds64") + 16
    assert int.from_bytes(data[at : at + 8], "little") == SAMPLES.nbytes
    for magic in (b"RF64", b"BW64"):
        data[:4] = magic
        np.testing.assert_array_equal(decode(bytes(data), None).samples, SAMPLES)
    data[at : at + 8] = (2 * SAMPLES.nbytes).to_bytes(8, "little")
    assert reason(bytes(data)) == "truncated"
    data[at : at + 8] = (SAMPLES.nbytes // 2).to_bytes(8, "little")
    assert reason(bytes(data)) == "contradictory header"
    data[at : at + 8] = bytes(8)
    np.testing.assert_array_equal(decode(bytes(data), None).samples, SAMPLES)


@pytest.mark.parametrize(
    ("form", "mark", "offset", "order", "extra"),
    [("W64", b"data", 16, "little", 24), ("CAF", b"data", 4, "big", 4), ("NIST", b"", 0, "", 0)],
)
@pytest.mark.parametrize("share", [0.01, 0.5, 0.9, 1.5, 30.0])
def test_a_size_of_64_bits_or_in_words_is_compared_with_the_file(
    form, mark, offset, order, extra, share
):
    data = encode(SAMPLES, RATE, form)
    if form == "NIST":
        count = b"sample_count -i 12000"
        said = b"sample_count -i %d" % (int(share * 12000))
        assert count in data
        head = data[:1024].replace(count, said)
        data = (head.rstrip(b"\0 \n") + b"\n").ljust(1024, b"\n")[:1024] + data[1024:]
    else:
        at = data.index(mark) + offset
        size = int.from_bytes(data[at : at + 8], order) - extra
        assert size == SAMPLES.nbytes
        said = int(share * size) // 2 * 2 + extra
        data = data[:at] + said.to_bytes(8, order) + data[at + 8 :]
    expected = ("truncated",) if share > 1 else ("contradictory header", "truncated")
    assert reason(data) in expected


@pytest.mark.parametrize("open_", [(-1).to_bytes(8, "big", signed=True), bytes(8)])
def test_a_caf_may_have_an_unknown_length(open_):
    data = encode(SAMPLES, RATE, "CAF")
    at = data.index(b"data") + 4
    data = data[:at] + open_ + data[at + 8 :]
    np.testing.assert_array_equal(decode(data, None).samples, SAMPLES)


def wav(code: int, bits: int, block: int, content: bytes, *, valid: int | None = None) -> bytes:
    """Returns a mono WAV at 16 kHz."""
    form = struct.pack("<HHIIHH", code, 1, 16000, 16000 * block, block, bits)
    if valid is not None:
        guid = bytes.fromhex("000000001000800000AA00389B71")
        form = (
            struct.pack("<H", 0xFFFE) + form[2:] + struct.pack("<HHIH", 22, valid, 4, code) + guid
        )
    parts = b"WAVEfmt " + struct.pack("<I", len(form)) + form
    parts += b"data" + struct.pack("<I", len(content)) + content
    return b"RIFF" + struct.pack("<I", len(parts)) + parts


def test_24_bits_in_4_bytes_are_refused():
    wide = SAMPLES.astype("<i4") << 8
    assert reason(wav(1, 24, 4, wide.tobytes())) == "contradictory header"
    assert reason(wav(1, 24, 4, (wide << 8).tobytes())) == "contradictory header"
    assert reason(wav(1, 24, 4, wide.tobytes(), valid=24)) == "contradictory header"


@pytest.mark.parametrize(("bits", "valid"), [(32, 24), (32, 20), (24, 24), (24, 20), (16, 12)])
def test_valid_bits_are_the_most_significant(bits, valid):
    wide = (SAMPLES.astype("<i4") << 16).view(np.uint8).reshape(-1, 4)
    content = wide[:, 4 - bits // 8 :].tobytes()
    data = wav(1, bits, bits // 8, content, valid=valid)
    np.testing.assert_array_equal(decode(data, None).samples, SAMPLES)
    _, reference = scipy.io.wavfile.read(io.BytesIO(data))
    wide = reference.astype(np.int64) << (16 if bits == 16 else 0)
    np.testing.assert_array_equal(wide >> 16, SAMPLES)


def test_an_extensible_format_of_the_other_byte_order():
    data = bytearray(encode(SAMPLES, 16000, "WAVEX"))
    at = data.index(b"fmt ") + 8
    fields = struct.unpack("<HHIIHHHHIIHH", data[at : at + 32])
    big = struct.pack(">HHIIHHHHIIHH", *fields) + data[at + 32 : at + 40]
    chunks = b"WAVEfmt " + struct.pack(">I", 40) + big
    chunks += b"data" + struct.pack(">I", SAMPLES.nbytes) + SAMPLES.astype(">i2").tobytes()
    rifx = b"RIFX" + struct.pack(">I", len(chunks)) + chunks
    np.testing.assert_array_equal(decode(rifx, None).samples, SAMPLES)
    _, reference = scipy.io.wavfile.read(io.BytesIO(rifx))
    np.testing.assert_array_equal(reference, SAMPLES)


def test_unknown_chunks_in_a_w64_are_skipped():
    data = encode(SAMPLES, RATE, "W64")
    strange = bytes(range(16)) + struct.pack("<Q", 24 + 16) + b"a chunk of theirs"[:16]
    at = data.index(b"data")
    np.testing.assert_array_equal(decode(data[:at] + strange + data[at:], None).samples, SAMPLES)
    np.testing.assert_array_equal(decode(data + strange, None).samples, SAMPLES)


@pytest.mark.parametrize("form", ["AIFF", "AU", "CAF", "W64", "RF64", "NIST"])
def test_header_and_length_of_a_file_without_samples(form):
    assert reason(encode(SAMPLES[:0], RATE, form)) == "empty"


def test_an_impossible_fact_is_refused():
    data = bytearray(encode(SAMPLES, RATE, subtype="MS_ADPCM"))
    at = data.index(b"fact") + 8
    assert int.from_bytes(data[at : at + 4], "little") == len(SAMPLES)
    for fact, found in ((100, "contradictory header"), (1_000_000, "truncated")):
        data[at : at + 4] = fact.to_bytes(4, "little")
        assert reason(bytes(data)) == found
    for fact in (0, 0xFFFFFFFF):  # unknown
        data[at : at + 4] = fact.to_bytes(4, "little")
        assert len(decode(bytes(data), None).samples) >= len(SAMPLES)


@pytest.mark.parametrize("form", ["VOC", "PAF", "MAT5", "SVX", "PVF"])
def test_formats_without_a_length_check_are_refused(form):
    assert reason(encode(SAMPLES, RATE, form)).startswith(("unsupported format", "not audio"))


@pytest.mark.parametrize(
    "head", [b"\0\0\0\x20ftypM4A ", b"#!AMR\n", b"\x1aE\xdf\xa3", b"wvpk", b"RIFF\0\0\0\0AVI LIST"]
)
def test_other_formats_are_unsupported(head):
    assert reason(head + bytes(500)) == "unsupported format: convert it to WAV or FLAC"


@pytest.mark.parametrize("form", FORMS)
def test_damaged_headers_never_crash(form):
    subtypes = [subtype for of, subtype, channels in ENCODINGS if of == form and channels == 1]
    rng = np.random.default_rng(0)
    for subtype in subtypes:
        whole = encode(SAMPLES[:2000], RATE, form, subtype)
        for _ in range(100):
            data, kind = bytearray(whole), rng.integers(3)
            at = int(rng.integers(min(len(data), 200) - 8))
            if kind == 0:
                data[at] ^= 1 << rng.integers(8)
            elif kind == 1:
                data[at : at + rng.choice([1, 2, 4, 8])] = rng.choice([b"", bytes(4), b"\xff" * 8])
            else:
                data[at : at + 8] = rng.bytes(8)
            with contextlib.suppress(BadAudio):
                assert len(decode(bytes(data), 8000).samples)


def with_long_table(count: int) -> bytes:
    """Returns a CAF whose packet table has one size of `count` bytes."""
    data = encode(SAMPLES, RATE, "CAF", "ALAC_16")
    at = data.index(b"pakt") + 4
    behind = at + 8 + int.from_bytes(data[at : at + 8], "big")
    table = data[at + 8 : at + 32] + b"\xff" * count
    return data[:at] + len(table).to_bytes(8, "big") + table + data[behind:]


@pytest.mark.parametrize(
    "data",
    [
        b"RIFF\0\0\0\0WAVE" + b"JUNK\0\0\0\0" * 2_000_000,
        encode(SAMPLES) + b"JUNK\0\0\0\0" * 2_000_000,
        b"FORM\0\0\0\0AIFF" + b"JUNK\0\0\0\0" * 2_000_000,
        b"FORM\0\0\0\0AIFF" + bytes(16_000_000),
        b"caff\0\1\0\0" + b"free" * 3_000_000,
        b"caff\0\1\0\0" + (b"free" + bytes(8)) * 1_000_000,
        encode(SAMPLES, form="FLAC")[:4] + bytes([0, 0, 0, 34]) + bytes(16_000_000),
        b"ID3\4\0\0\0\0\0\0" * 1_000_000,
        b"\xff\xfb\x90\xc4".ljust(417, b"\0") * 2 + b"LYRICSBEGINLYRICSEND" * 500_000,
        with_long_table(4_000_000),
    ],
    ids=range(10),
)
def test_endless_headers_end(data):
    assert reason(data) in ("contradictory header", "truncated", "damaged", "not audio")


def test_duration_equals_that_of_the_decoded_samples(tmp_path):
    for form, subtype in (("WAV", "GSM610"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")):
        path = tmp_path / "sound"
        path.write_bytes(encode(SAMPLES, RATE, form, subtype))
        assert duration(path) * RATE == len(decode(path, None).samples) == len(SAMPLES)
