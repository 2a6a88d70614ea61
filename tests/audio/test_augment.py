"""Augmentations: their effects, and their independence of batch and padding."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.interpolate
import scipy.stats

from gru_audio.audio import augment
from gru_audio.audio.frontends.log_mel import LogMel
from gru_audio.audio.normalise import Normalisation, feature_sums

SAMPLES, FRAMES, BANDS = 200, 30, 12
LENGTHS = np.array([40, 120, 200, 1, 77, 200])
FRAME_LENGTHS = np.array([5, 30, 17, 1, 30, 29])
FREQUENCIES = np.geomspace(100, 3000, BANDS)
KEYS = jax.random.split(jax.random.key(0), LENGTHS.size)


def clips(rows=LENGTHS.size, seed=1):
    """Waveforms (rows, SAMPLES), zero beyond their lengths and nonzero before."""
    values = np.random.default_rng(seed).uniform(0.1, 1, (rows, SAMPLES)).astype(np.float32)
    return np.where(np.arange(SAMPLES) < LENGTHS[:rows, None], values, 0)


def features(rows=LENGTHS.size):
    values = np.random.default_rng(2).uniform(1, 2, (rows, FRAMES, BANDS)).astype(np.float32)
    return np.where(np.arange(FRAMES)[:, None] < FRAME_LENGTHS[:rows, None, None], values, 0)


def shifted(keys, inputs, lengths, strength):
    return augment.time_shift(keys, inputs, lengths, strength)[0]


def amplified(keys, inputs, lengths, strength):
    return augment.gain(keys, inputs, strength)


def mixed(keys, inputs, lengths, strength):
    # The partner is a function of the example's row, so that rows are comparable.
    return augment.mixup(keys, inputs, -0.5 * inputs, strength)[0]


def sped(keys, inputs, lengths, strength):
    return augment.speed(keys, inputs, lengths, strength)[0]


def in_noise(keys, inputs, lengths, strength):
    # As above: each row has its own background.
    noise, period = jnp.flip(inputs[:, :SAMPLES], 1)[:, :30] + 1, jnp.full(lengths.shape, 30)
    noise = jnp.pad(noise, ((0, 0), (0, inputs.shape[1] - 30)))
    return augment.background(
        keys, inputs, lengths, noise, period, share=strength, snr_db=(0.0, 10.0)
    )


def masked(keys, inputs, lengths, strength):
    return augment.spec_augment(
        keys,
        inputs,
        lengths,
        time_masks=2,
        time_width=strength,
        frequency_masks=1,
        frequency_width=strength,
    )


def stretched(keys, inputs, lengths, strength):
    return augment.tempo(keys, inputs, lengths, strength)[0]


def warped(keys, inputs, lengths, strength):
    return augment.frequency_warp(keys, inputs, FREQUENCIES, strength)


AUGMENTATIONS = {
    "time_shift": (jax.jit(shifted), clips, LENGTHS, 30),
    "gain": (jax.jit(amplified), clips, LENGTHS, 6.0),
    "speed": (jax.jit(sped), clips, LENGTHS, 0.2),
    "background": (jax.jit(in_noise), clips, LENGTHS, 1.0),
    "mixup": (jax.jit(mixed), clips, LENGTHS, 0.4),
    "tempo": (jax.jit(stretched), features, FRAME_LENGTHS, 0.2),
    "frequency_warp": (jax.jit(warped), features, FRAME_LENGTHS, 0.2),
    "spec_augment": (jax.jit(masked), features, FRAME_LENGTHS, 6),
}
every = pytest.mark.parametrize("name", AUGMENTATIONS)


@every
def test_strength_0_changes_nothing(name):
    function, inputs, lengths, strength = AUGMENTATIONS[name]
    np.testing.assert_array_equal(function(KEYS, inputs(), lengths, 0 * strength), inputs())


@every
def test_the_result_depends_on_the_key(name):
    function, inputs, lengths, strength = AUGMENTATIONS[name]
    first = function(KEYS, inputs(), lengths, strength)
    np.testing.assert_array_equal(first, function(KEYS, inputs(), lengths, strength))
    other_keys = jax.random.split(jax.random.key(1), LENGTHS.size)
    assert not np.array_equal(first, function(other_keys, inputs(), lengths, strength))
    assert not np.array_equal(first, inputs())


@every
def test_other_rows_do_not_matter(name):
    function, inputs, lengths, strength = AUGMENTATIONS[name]
    batch = function(KEYS, inputs(), lengths, strength)
    order = np.array([4, 2, 0])
    some = function(KEYS[order], inputs()[order], lengths[order], strength)
    np.testing.assert_array_equal(some, batch[order])


@every
def test_padding_does_not_matter(name):
    function, inputs, lengths, strength = AUGMENTATIONS[name]
    batch = inputs()
    padding = [(0, 0), (0, 50)] + [(0, 0)] * (batch.ndim - 2)
    longer = function(KEYS, np.pad(batch, padding), lengths, strength)
    tolerance = 1e-6 if name == "background" else 0  # powers are sums, which are rounded
    np.testing.assert_allclose(
        longer[:, : batch.shape[1]], function(KEYS, batch, lengths, strength), rtol=tolerance
    )


@every
def test_strengths_may_differ_between_mapped_members(name):
    function, inputs, lengths, strength = AUGMENTATIONS[name]
    strengths = jnp.array([0 * strength, strength])
    mapped = jax.jit(jax.vmap(function, in_axes=(None, None, None, 0)))
    together = mapped(KEYS, inputs(), lengths, strengths)
    for member, value in zip(together, strengths, strict=True):
        alone = function(KEYS, inputs(), lengths, value)
        np.testing.assert_allclose(member, alone, rtol=1e-6)


@functools.partial(jax.jit, static_argnums=1)
def many_keys(seed, count):
    return jax.random.split(jax.random.key(seed), count)


def test_time_shift_moves_a_clip_within_its_length_and_reaches_both_bounds():
    clip = np.arange(1, 9, dtype=np.float32)
    keys = many_keys(3, 400)
    batch = np.broadcast_to(np.pad(clip, (0, 4)), (400, 12))
    moved, shifts = map(np.asarray, augment.time_shift(keys, batch, np.full(400, 8), 2))
    expected = {
        shift: np.pad(np.pad(clip, (2, 2))[2 - shift : 10 - shift], (0, 4))
        for shift in range(-2, 3)
    }
    for row, shift in zip(moved, shifts, strict=True):
        np.testing.assert_array_equal(row, expected[int(shift)])
    assert set(shifts.tolist()) == {-2, -1, 0, 1, 2}


def test_gain_is_uniform_in_decibels():
    keys = many_keys(4, 4000)
    decibels = 20 * np.log10(augment.gain(keys, np.ones((4000, 1), np.float32), 6.0)[:, 0])
    assert np.abs(decibels).max() <= 6 + 1e-4
    assert scipy.stats.kstest(decibels, "uniform", args=(-6, 12)).pvalue > 0.01


def test_speed_equals_catmull_rom_interpolation():
    rows, length = 400, 60
    clip = np.random.default_rng(8).standard_normal(length)
    batch = np.broadcast_to(np.pad(clip, (0, 20)).astype(np.float32), (rows, 80))
    keys, lengths = many_keys(8, rows), np.full(rows, length)
    played, new, told = map(np.asarray, jax.jit(augment.speed)(keys, batch, lengths, 0.2))
    factors = length / new
    assert 1 / 1.25 - 0.02 < factors.min() < 0.83 and 1.17 < factors.max() < 1.22
    edges = np.pad(clip, (1, 1), mode="edge")
    cubic = scipy.interpolate.CubicHermiteSpline(
        np.arange(length), clip, (edges[2:] - edges[:-2]) / 2
    )
    factor = 1 + 0.2 * np.asarray(
        jax.vmap(lambda key: jax.random.uniform(key, minval=-1.0, maxval=1.0))(keys)
    )
    np.testing.assert_allclose(told, factor, rtol=1e-6)
    for row in range(0, rows, 7):
        at = np.arange(int((length - 1) / factor[row])) * factor[row]
        np.testing.assert_allclose(played[row, : at.size], cubic(at), atol=2e-5)
        assert not played[row, new[row] :].any()


def test_speed_cuts_a_clip_that_becomes_longer_than_its_batch():
    batch = np.ones((200, 50), np.float32)
    played, new, _ = augment.speed(many_keys(9, 200), batch, np.full(200, 50), 0.3)
    assert new.max() == 50 and new.min() < 42
    np.testing.assert_array_equal((played != 0).sum(axis=1), new)


def uniform_factors(keys, most):
    """Returns the factors that functions of speed draw, float64 (B,)."""
    draw = jax.vmap(lambda key: jax.random.uniform(key, minval=-1.0, maxval=1.0))
    return 1 + most * np.asarray(draw(keys), np.float64)


def test_tempo_interpolates_frames():
    rows, length = 200, 25
    clip = np.random.default_rng(13).standard_normal((length, BANDS))
    batch = np.broadcast_to(np.pad(clip, ((0, 15), (0, 0))).astype(np.float32), (rows, 40, BANDS))
    keys, lengths = many_keys(13, rows), np.full(rows, length)
    played, new, told = map(np.asarray, jax.jit(augment.tempo)(keys, batch, lengths, 0.3))
    factor = uniform_factors(keys, 0.3)
    np.testing.assert_allclose(told, factor, rtol=1e-6)
    np.testing.assert_array_equal(new, np.floor((length - 1) / factor) + 1)
    line = scipy.interpolate.interp1d(np.arange(length), clip, axis=0)
    for row in range(0, rows, 7):
        np.testing.assert_allclose(
            played[row, : new[row]], line(np.arange(new[row]) * factor[row]), atol=1e-4
        )
        assert not played[row, new[row] :].any()


def test_frequency_warp_moves_a_tone_like_its_frequency():
    """The warped spectrum of a tone has its peak where that of a tone of the new pitch has it."""
    rate, pitch, rows = 16_000, 1000.0, 60
    frontend = LogMel(rate, mels=64, n_fft=1024)

    def peaks(pitches, change=lambda features: features):
        sounds = 0.3 * np.sin(2 * np.pi * np.outer(pitches, np.arange(rate // 10)) / rate)
        features, _ = frontend(jnp.asarray(sounds, jnp.float32), np.full(rows, rate // 10))
        return np.asarray(change(features)).mean(axis=1).argmax(axis=1)

    keys = many_keys(14, rows)
    warped = peaks(
        np.full(rows, pitch),
        lambda features: augment.frequency_warp(keys, features, frontend.band_frequencies, 0.2),
    )
    sung = peaks(pitch * uniform_factors(keys, 0.2))
    assert np.abs(warped - sung).max() <= 1
    assert np.ptp(sung) >= 8


def test_frequency_warp_changes_all_blocks_alike():
    batch = np.concatenate([features()] * 3, axis=-1)
    blocks = np.split(np.asarray(warped(KEYS, batch, FRAME_LENGTHS, 0.2)), 3, axis=-1)
    np.testing.assert_array_equal(blocks[0], warped(KEYS, features(), FRAME_LENGTHS, 0.2))
    np.testing.assert_array_equal(blocks[1], blocks[0])
    np.testing.assert_array_equal(blocks[2], blocks[0])


def test_background_has_the_given_ratios_and_probability():
    rows, length, period = 3000, 90, 40
    rng = np.random.default_rng(10)
    batch = np.pad(rng.standard_normal((rows, length)), ((0, 0), (0, 10))).astype(np.float32)
    noise = np.pad(rng.standard_normal((rows, period)), ((0, 0), (0, 60))).astype(np.float32)
    noisy = jax.jit(augment.background)(
        many_keys(10, rows),
        batch,
        np.full(rows, length),
        noise,
        np.full(rows, period),
        share=0.6,
        snr_db=(-5.0, 20.0),
    )
    added = np.asarray(noisy) - batch
    assert not added[:, length:].any()
    has_any = added.any(axis=1)
    assert scipy.stats.binomtest(int(has_any.sum()), rows, 0.6).pvalue > 0.01
    power = (added[has_any] ** 2).sum(axis=1)
    decibels = 10 * np.log10((batch[has_any] ** 2).sum(axis=1) / power)
    assert scipy.stats.kstest(decibels, "uniform", args=(-5, 25)).pvalue > 0.01
    # Each is the background from some start, repeated.
    np.testing.assert_allclose(
        added[has_any][:, period : 2 * period], added[has_any][:, :period], atol=1e-4
    )
    for one, its in list(zip(added[has_any], noise[has_any], strict=True))[:50]:
        unit = one[:period] / np.linalg.norm(one[:period])
        turned = np.stack([np.roll(its[:period], k) for k in range(period)])
        likeness = turned @ unit / np.linalg.norm(its[:period])
        assert likeness.max() > 0.999


@pytest.mark.parametrize("silent", ["clip", "background"])
def test_silence_does_not_change(silent):
    sound, silence = np.ones((3, 20), np.float32), np.zeros((3, 20), np.float32)
    clip, noise = (silence, sound) if silent == "clip" else (sound, silence)
    lengths = np.array([20, 7, 0])
    noisy = augment.background(
        many_keys(11, 3), clip, lengths, noise, lengths, share=1.0, snr_db=(0.0, 0.0)
    )
    np.testing.assert_array_equal(noisy, clip)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_mixup_weights_follow_a_beta_distribution(alpha):
    rows = 2000
    first, second = np.full((rows, 1), 3.0, np.float32), np.full((rows, 1), 1.0, np.float32)
    mix, weight = jax.jit(augment.mixup)(many_keys(5, rows), first, second, alpha)
    assert ((weight >= 0) & (weight <= 1)).all()
    np.testing.assert_allclose(mix[:, 0], 1 + 2 * weight, rtol=1e-6)
    assert scipy.stats.kstest(weight, "beta", args=(alpha, alpha)).pvalue > 0.01


def test_mixup_of_strength_0_gives_the_first_clip_all_the_weight():
    _, weight = augment.mixup(KEYS, clips(), clips(seed=9), 0.0)
    np.testing.assert_array_equal(weight, 1)


def runs(flags):
    """Returns the number of runs of True."""
    return int(np.sum(np.diff(np.concatenate([[0], flags.astype(int)])) == 1))


def test_spec_augment_masks_ranges_of_bounded_width_within_the_clip():
    rows, length = 300, 20
    batch = np.ones((rows, FRAMES, BANDS), np.float32)
    masked = np.asarray(
        augment.spec_augment(
            many_keys(6, rows),
            batch,
            np.full(rows, length),
            time_masks=1,
            time_width=7,
            frequency_masks=2,
            frequency_width=3,
        )
    )
    in_time = (masked == 0).all(axis=2)
    in_frequency = (masked == 0).all(axis=1)
    np.testing.assert_array_equal(masked == 0, in_time[:, :, None] | in_frequency[:, None, :])
    assert set(in_time.sum(axis=1)) == set(range(8))
    assert max(map(runs, in_time)) == 1
    assert not in_time[:, length:].any()
    assert in_time[:, 0].any() and in_time[:, length - 1].any()
    assert set(in_frequency.sum(axis=1)) == set(range(7))
    assert max(map(runs, in_frequency)) == 2
    assert in_frequency[:, 0].any() and in_frequency[:, -1].any()


def test_blocks_of_the_same_bands_get_the_same_mask():
    batch = np.ones((50, FRAMES, 3 * BANDS), np.float32)
    masked = np.asarray(
        augment.spec_augment(
            many_keys(12, 50),
            batch,
            np.full(50, FRAMES),
            time_masks=0,
            time_width=0,
            frequency_masks=1,
            frequency_width=4,
            blocks=3,
        )
    )
    first, *others = np.split(masked, 3, axis=2)
    assert (first == 0).any() and (first == 1).any()
    for other in others:
        np.testing.assert_array_equal(other, first)


def test_spec_augment_wider_than_a_clip_stays_within_it():
    batch = np.ones((200, FRAMES, BANDS), np.float32)
    masked = np.asarray(
        augment.spec_augment(
            many_keys(7, 200),
            batch,
            np.full(200, 3),
            time_masks=1,
            time_width=25,
            frequency_masks=0,
            frequency_width=0,
        )
    )
    assert set((masked[:, :3, 0] == 0).sum(axis=1)) == {0, 1, 2, 3}
    assert (masked[:, 3:] == 1).all()


def test_normalisation_statistics_equal_those_of_all_valid_frames():
    rng = np.random.default_rng(8)
    batch = rng.normal(-8, 3, (6, FRAMES, BANDS)).astype(np.float32)
    count, total, squares = jax.jit(feature_sums)(batch, FRAME_LENGTHS)
    chosen = np.array([0, 2, 5])
    normalisation = Normalisation.from_sums(count[chosen], total[chosen], squares[chosen])
    valid = np.concatenate([batch[i, : FRAME_LENGTHS[i]] for i in chosen]).astype(np.float64)
    np.testing.assert_allclose(normalisation.mean, valid.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(normalisation.std, valid.std(axis=0), rtol=1e-4)

    normalised = np.asarray(jax.jit(lambda n, x: n(x))(normalisation, valid.astype(np.float32)))
    np.testing.assert_allclose(normalised.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(normalised.std(axis=0), 1, atol=1e-4)


def test_a_constant_feature_is_not_amplified():
    sums = feature_sums(jnp.zeros((2, 5, 3)), jnp.array([5, 4]))
    normalisation = Normalisation.from_sums(*sums, min_std=0.5)
    np.testing.assert_array_equal(normalisation.std, 0.5)
    np.testing.assert_array_equal(normalisation(jnp.full((1, 3), 1.0)), 2.0)
