"""The peer: the same classifier, frontend and optimizer in PyTorch, as people write them there."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from gru_audio.audio.frontends.log_mel import LogMel, hann
from gru_audio.audio.frontends.mel import mel_bands
from gru_audio.audio.normalise import Normalisation
from gru_audio.rnn.weights import to_torch

LAYERS = {"gru": torch.nn.GRU, "lstm": torch.nn.LSTM, "rnn": torch.nn.RNN}
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
FORMS = ("packed", "padded")  # two ways to serve clips of several lengths


class Classifier(torch.nn.Module):
    """`nn.GRU` (or another layer), its state after the last frame of each clip, `nn.Linear`."""

    def __init__(self, cell: str, params: Mapping[str, Any], form: str):
        super().__init__()
        state, output = to_torch(cell, params["encoder"]), params["head"]["output"]
        features, hidden = state["weight_ih_l0"].shape[1], state["weight_hh_l0"].shape[1]
        layers = sum(name.startswith("weight_hh") for name in state)
        self.form = form
        self.layer = LAYERS[cell](features, hidden, layers, batch_first=True)
        self.layer.load_state_dict({k: torch.tensor(v) for k, v in state.items()})
        self.output = torch.nn.Linear(*output["kernel"].shape)
        self.output.load_state_dict(
            {
                "weight": torch.tensor(np.asarray(output["kernel"]).T),
                "bias": torch.tensor(np.asarray(output["bias"])),
            }
        )

    def forward(self, features: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
        """Logits of features (B, T, F) with frame counts (B,)."""
        if self.form == "packed":
            packed = torch.nn.utils.rnn.pack_padded_sequence(
                features, frames, batch_first=True, enforce_sorted=False
            )
            _, state = self.layer(packed)
            last = (state[0] if isinstance(state, tuple) else state)[-1]
        else:
            outputs, _ = self.layer(features)
            last = outputs[torch.arange(len(outputs)), frames - 1]
        return self.output(last)


class Frontend(torch.nn.Module):
    """Normalised log-mel features of int16 samples, by `torch.stft`."""

    bands: torch.Tensor
    window: torch.Tensor
    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, log_mel: LogMel, normalisation: Normalisation):
        super().__init__()
        self.about = log_mel
        bands = mel_bands(
            log_mel.sample_rate, log_mel.n_fft, log_mel.mels, log_mel.f_min, log_mel.f_max
        )
        self.register_buffer("bands", torch.tensor(bands.T, dtype=torch.float32))
        self.register_buffer("window", torch.tensor(hann(log_mel.window), dtype=torch.float32))
        self.register_buffer("mean", torch.tensor(np.asarray(normalisation.mean)))
        self.register_buffer("std", torch.tensor(np.asarray(normalisation.std)))

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        """Features (B, T, F) of audio (B, L)."""
        about = self.about
        spectrum = torch.stft(
            audio.float() / 32768,
            about.n_fft,
            about.hop,
            about.window,
            self.window,
            center=False,
            return_complex=True,
        )
        power = spectrum.real**2 + spectrum.imag**2
        log_mel = torch.log(torch.clamp(power.transpose(1, 2) @ self.bands, min=about.floor))
        return (log_mel - self.mean) / self.std


def training_step(
    model: Classifier,
    features: Callable[[], torch.Tensor],
    frames: np.ndarray,
    labels: np.ndarray,
    learning_rate: float,
    clip_norm: float,
) -> Callable[[], float]:
    """A step of Adam (PyTorch's fused one) on one batch; returns the loss before the update.

    Args:
      model: what is trained.
      features: makes the batch (B, T, F).
      frames: frame counts (B,).
      labels: classes (B,).
      learning_rate: of Adam.
      clip_norm: of the gradient, 0 for no clipping.
    """
    model.to(DEVICE)
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate, fused=True)
    counts = torch.tensor(frames, dtype=torch.int64)  # packing wants them on the host
    classes = torch.tensor(labels, dtype=torch.int64, device=DEVICE)

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(model(features(), counts), classes)
        loss.backward()
        if clip_norm:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
        optimizer.step()
        return loss.item()

    return step
