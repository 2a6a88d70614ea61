"""The same layer, classifier, frontend and optimizer in idiomatic PyTorch."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import torch

from benchmarks.experiment import Setting, first
from benchmarks.harness import cores
from benchmarks.layers import Layer, LayerData
from gru_audio.audio.frontends.log_mel import LogMel, hann, mel_bands
from gru_audio.audio.normalise import Normalisation
from gru_audio.nn.weights import to_torch

LAYERS = {"gru": torch.nn.GRU, "lstm": torch.nn.LSTM, "rnn": torch.nn.RNN}
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
FORMS = ("packed", "padded")  # two ways to process clips of different lengths

torch.set_num_threads(cores())


class Classifier(torch.nn.Module):
    """`nn.GRU` (or another layer) and `nn.Linear` on the state after each clip's last frame."""

    def __init__(self, cell: str, params: Mapping[str, Any], form: str):
        super().__init__()
        state, output = to_torch(cell, params["encoder"]), params["head"]["output"]
        features, hidden = state["weight_ih_l0"].shape[1], state["weight_hh_l0"].shape[1]
        layers = sum(name.startswith("weight_hh") for name in state)
        self.form = form
        self.layer = LAYERS[cell](features, hidden, layers, batch_first=True)
        self.layer.load_state_dict(_tensors(state))
        self.output = torch.nn.Linear(*output["kernel"].shape)
        self.output.load_state_dict(
            _tensors({"weight": np.asarray(output["kernel"]).T, "bias": output["bias"]})
        )

    def forward(self, features: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
        """Returns logits of features (B, T, F) with frame counts (B,)."""
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
    """Normalised log-mel features of int16 samples, with `torch.stft`."""

    bands: torch.Tensor
    window: torch.Tensor
    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, log_mel: LogMel, normalisation: Normalisation):
        super().__init__()
        self.about = log_mel
        bands = mel_bands(
            log_mel.sample_rate, log_mel.fft_size, log_mel.mels, log_mel.f_min, log_mel.highest
        )
        self.register_buffer("bands", torch.tensor(bands.T, dtype=torch.float32))
        self.register_buffer("window", torch.tensor(hann(log_mel.window), dtype=torch.float32))
        self.register_buffer("mean", torch.tensor(np.asarray(normalisation.mean)))
        self.register_buffer("std", torch.tensor(np.asarray(normalisation.std)))

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        """Returns features (B, T, F) of audio (B, L)."""
        about = self.about
        spectrum = torch.stft(
            audio.float() / 32768,
            about.fft_size,
            about.hop,
            about.window,
            self.window,
            center=False,
            return_complex=True,
        )
        power = spectrum.real**2 + spectrum.imag**2
        log_mel = torch.log(torch.clamp(power.transpose(1, 2) @ self.bands, min=about.floor))
        return (log_mel - self.mean) / self.std


def training_steps(
    setting: Setting, features: np.ndarray | None = None
) -> dict[str, Callable[[], float]]:
    """Returns steps of PyTorch's fused Adam on the first batch, by the name of their form.

    They start from the setting's initial weights. A step returns the loss before its update.

    Args:
      setting: setting of a config from `plain`.
      features: (B, T, F); None: each step computes them from sound.
    """
    batch, state = setting.start()
    batch, member = first(batch), first(jax.device_get(state))
    _, frames = jax.device_get(jax.jit(setting.program.features)(batch))
    counts = torch.tensor(frames, dtype=torch.int64)  # packing needs them on the host
    classes = torch.tensor(batch.labels, dtype=torch.int64, device=DEVICE)
    audio = torch.tensor(batch.signal, device=DEVICE)
    ready = None if features is None else torch.tensor(features, device=DEVICE)
    assert isinstance(setting.program.frontend, LogMel)
    frontend = Frontend(setting.program.frontend, member.normalisation).to(DEVICE)
    optimization = setting.config.optimizer

    def step_of(form: str) -> Callable[[], float]:
        model = Classifier(setting.config.model.cell, member.weights.params, form).to(DEVICE)
        adam = torch.optim.Adam(model.parameters(), lr=optimization.learning_rate, fused=True)

        def step() -> float:
            adam.zero_grad(set_to_none=True)
            logits = model(frontend(audio) if ready is None else ready, counts)
            loss = torch.nn.functional.cross_entropy(logits, classes)
            loss.backward()
            if optimization.clip_norm:
                torch.nn.utils.clip_grad_norm_(model.parameters(), optimization.clip_norm)
            adam.step()
            return loss.item()

        return step

    return {f"PyTorch, {form}": step_of(form) for form in FORMS}


def layer(data: LayerData, *, compiled: bool = False) -> Layer:
    """Makes an `nn.GRU` or `nn.LSTM`, which uses cuDNN on a GPU.

    Args:
      data: weights and inputs. Ragged lengths are packed.
      compiled: whether to use `torch.compile`.

    Raises:
      Exception: `torch.compile` fails.
    """
    case = data.case
    torch.backends.cuda.matmul.allow_tf32 = case.precision == "tf32"
    torch.backends.cudnn.allow_tf32 = case.precision == "tf32"
    dtype = torch.bfloat16 if case.precision == "bfloat16" else torch.float32
    eager = LAYERS[case.cell](
        case.features, case.hidden, batch_first=True, bidirectional=case.bidirectional
    )
    eager.load_state_dict(_tensors(to_torch(case.cell, data.params)))
    eager = eager.to(DEVICE, dtype)
    inputs = torch.tensor(data.inputs, device=DEVICE, dtype=dtype, requires_grad=True)
    weight = torch.tensor(data.weight, device=DEVICE, dtype=dtype)
    lengths = None if data.lengths is None else torch.tensor(data.lengths)
    called: Any = torch.compile(eager) if compiled else eager

    def outputs() -> torch.Tensor:
        if lengths is None:
            return called(inputs)[0]
        packed = torch.nn.utils.rnn.pack_padded_sequence(
            inputs, lengths, batch_first=True, enforce_sorted=False
        )
        frames, _ = torch.nn.utils.rnn.pad_packed_sequence(
            called(packed)[0], batch_first=True, total_length=case.time
        )
        return frames

    def forward() -> torch.Tensor:
        with torch.no_grad():
            found = outputs()
        _wait()
        return found

    def both() -> tuple[torch.Tensor, ...]:
        found = outputs()
        gradients = torch.autograd.grad(found, [inputs, *eager.parameters()], weight)
        _wait()
        return found, *gradients

    def result():
        frames, d_inputs, *_ = both()
        return frames.detach().float().cpu().numpy(), None, d_inputs.float().cpu().numpy()

    began = time.perf_counter()
    both()
    return Layer(forward, both, result, time.perf_counter() - began if compiled else None)


def _tensors(arrays: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(np.asarray(array)) for name, array in arrays.items()}


def _wait() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()
