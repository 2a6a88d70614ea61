"""The cells in float64 NumPy, gate by gate and frame by frame, from the papers' equations."""

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def split(array, names):
    return dict(
        zip(names, np.split(np.asarray(array, np.float64), len(names), axis=-1), strict=True)
    )


def gru(x, h, params, *, reset_after):
    """Cho et al. 2014, equations 5 to 8; with reset_after cuDNN's variant."""
    W = split(params["input_kernel"], "rzn")
    b = split(params["input_bias"], "rzn")
    if reset_after:
        U = split(params["recurrent_kernel"], "rzn")
    else:
        U = split(params["recurrent_kernel"], "rz") | {"n": params["candidate_kernel"]}
    r = sigmoid(x @ W["r"] + h @ U["r"] + b["r"])
    z = sigmoid(x @ W["z"] + h @ U["z"] + b["z"])
    if reset_after:
        n = np.tanh(x @ W["n"] + b["n"] + r * (h @ U["n"] + params["recurrent_bias"]))
    else:
        n = np.tanh(x @ W["n"] + b["n"] + (r * h) @ U["n"])
    return z * h + (1 - z) * n


def lstm(x, h, c, params, *, peepholes):
    """Graves 2013, equations 7 to 11; without peepholes Gers et al. 2000."""
    W = split(params["input_kernel"], "ifgo")
    U = split(params["recurrent_kernel"], "ifgo")
    b = split(params["input_bias"], "ifgo")
    p = split(params["peephole"], "ifo") if peepholes else dict.fromkeys("ifo", 0.0)
    i = sigmoid(x @ W["i"] + h @ U["i"] + p["i"] * c + b["i"])
    f = sigmoid(x @ W["f"] + h @ U["f"] + p["f"] * c + b["f"])
    c = f * c + i * np.tanh(x @ W["g"] + h @ U["g"] + b["g"])
    o = sigmoid(x @ W["o"] + h @ U["o"] + p["o"] * c + b["o"])
    return o * np.tanh(c), c


STEPS = {
    "gru": lambda x, s, p: (gru(x, *s, p, reset_after=True),),
    "gru_reset_before": lambda x, s, p: (gru(x, *s, p, reset_after=False),),
    "lstm": lambda x, s, p: lstm(x, *s, p, peepholes=False),
    "lstm_peephole": lambda x, s, p: lstm(x, *s, p, peepholes=True),
    "rnn": lambda x, s, p: (
        np.tanh(x @ p["input_kernel"] + s[0] @ p["recurrent_kernel"] + p["input_bias"]),
    ),
}


def layer(cell, params, frames, carry, *, reverse=False):
    """One example by itself: frames (time, features), carry of (hidden,) arrays."""
    params = {name: np.asarray(value, np.float64) for name, value in params.items()}
    frames = np.asarray(frames, np.float64)
    carry = tuple(np.asarray(value, np.float64) for value in carry)
    outputs = []
    for frame in frames[::-1] if reverse else frames:
        carry = STEPS[cell](frame, carry, params)
        outputs.append(carry[0])
    return np.stack(outputs[::-1] if reverse else outputs), carry
