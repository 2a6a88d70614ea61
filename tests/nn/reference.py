"""The cells in float64 NumPy, gate by gate and frame by frame, from the papers' equations.

A step returns the new carry, and the gates by name.
"""

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
    return (z * h + (1 - z) * n,), {"reset": r, "update": z, "candidate": n}


def lstm(x, h, c, params, *, peepholes):
    """Graves 2013, equations 7 to 11; without peepholes Gers et al. 2000."""
    W = split(params["input_kernel"], "ifgo")
    U = split(params["recurrent_kernel"], "ifgo")
    b = split(params["input_bias"], "ifgo")
    p = dict.fromkeys("ifo", 0.0)
    if peepholes:
        p = split(params["peephole"], "if") | {"o": params["output_peephole"]}
    i = sigmoid(x @ W["i"] + h @ U["i"] + p["i"] * c + b["i"])
    f = sigmoid(x @ W["f"] + h @ U["f"] + p["f"] * c + b["f"])
    g = np.tanh(x @ W["g"] + h @ U["g"] + b["g"])
    c = f * c + i * g
    o = sigmoid(x @ W["o"] + h @ U["o"] + p["o"] * c + b["o"])
    return (o * np.tanh(c), c), {"input": i, "forget": f, "candidate": g, "output": o}


def li_gru(x, h, params):
    """Ravanelli et al. 2018, equations 7 to 9 (without batch normalisation)."""
    W, U, b = (split(params[k], "zn") for k in ("input_kernel", "recurrent_kernel", "input_bias"))
    z = sigmoid(x @ W["z"] + h @ U["z"] + b["z"])
    n = np.maximum(x @ W["n"] + h @ U["n"] + b["n"], 0)
    return (z * h + (1 - z) * n,), {"update": z, "candidate": n}


def min_gru(x, h, params):
    """Feng et al. 2024, section 3.1."""
    W, b = split(params["input_kernel"], "zn"), split(params["input_bias"], "zn")
    z = sigmoid(x @ W["z"] + b["z"])
    n = x @ W["n"] + b["n"]
    return ((1 - z) * h + z * n,), {"update": z, "candidate": n}


def min_lstm(x, h, params):
    """Feng et al. 2024, section 3.2."""
    W, b = split(params["input_kernel"], "fin"), split(params["input_bias"], "fin")
    f, i = (sigmoid(x @ W[gate] + b[gate]) for gate in "fi")
    forget, write, n = f / (f + i), i / (f + i), x @ W["n"] + b["n"]
    return (forget * h + write * n,), {"forget": forget, "input": write, "candidate": n}


def rnn(x, h, params):
    """Elman 1990."""
    a = np.tanh(x @ params["input_kernel"] + h @ params["recurrent_kernel"] + params["input_bias"])
    return (a,), {"candidate": a}


STEPS = {
    "gru": lambda x, s, p: gru(x, *s, p, reset_after=True),
    "gru_reset_before": lambda x, s, p: gru(x, *s, p, reset_after=False),
    "lstm": lambda x, s, p: lstm(x, *s, p, peepholes=False),
    "lstm_peephole": lambda x, s, p: lstm(x, *s, p, peepholes=True),
    "li_gru": lambda x, s, p: li_gru(x, *s, p),
    "min_gru": lambda x, s, p: min_gru(x, *s, p),
    "min_lstm": lambda x, s, p: min_lstm(x, *s, p),
    "rnn": lambda x, s, p: rnn(x, *s, p),
}


def layer(cell, params, frames, carry, *, reverse=False):
    """Outputs and final carry of one example: frames (time, features), carry of (hidden,)."""
    outputs, _, carry = _run(cell, params, frames, carry, reverse)
    return outputs, carry


def layer_gates(cell, params, frames, carry, *, reverse=False):
    """Name of the gate or state -> (time, hidden) of one example, as `layer` takes it."""
    return _run(cell, params, frames, carry, reverse)[1]


def _run(cell, params, frames, carry, reverse):
    params = {name: np.asarray(value, np.float64) for name, value in params.items()}
    frames = np.asarray(frames, np.float64)
    carry = tuple(np.asarray(value, np.float64) for value in carry)
    order = -1 if reverse else 1
    outputs, gates = [], []
    for frame in frames[::order]:
        carry, now = STEPS[cell](frame, carry, params)
        outputs.append(carry[0])
        gates.append(now | dict(zip("hc", carry, strict=False)))
    by_name = {name: np.stack([now[name] for now in gates[::order]]) for name in gates[0]}
    return np.stack(outputs[::order]), by_name, carry
