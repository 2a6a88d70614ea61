"""The sections `train`, `checkpoint`, `log` and `parallel` of a config."""

from dataclasses import dataclass

from gru_audio.settings import setting

_COUNT = 2**31 - 1  # steps and frames are int32
_FLOAT = 3e38  # nearly the largest float32


@dataclass(frozen=True)
class TrainSettings:
    """The section `train` of a config."""

    batch_size: int = setting(32, low=1, high=2**20, unit="examples", doc="Examples per update.")
    steps: int = setting(3000, low=1, high=_COUNT, traced=True, doc="Number of updates.")
    epochs: float = setting(
        0.0,
        low=0,
        high=1e6,
        doc="Sets `steps` to this many passes over the training split; 0: `steps` as it is.",
    )
    grad_accumulation: int = setting(
        1,
        low=1,
        high=2**20,
        doc="A batch goes through the model in this many parts, which saves memory.",
    )
    tbptt_frames: int = setting(
        0,
        low=0,
        high=_COUNT,
        unit="frames",
        doc="Gradients are propagated back through this many frames; 0: through all frames.",
    )
    skip_nonfinite: int = setting(
        0,
        low=0,
        high=_COUNT,
        doc="Updates that may be skipped because of NaN or infinity before a run stops.",
    )
    weight_noise: float = setting(
        0.0,
        low=0,
        high=_FLOAT,
        traced=True,
        off=0,
        doc="Standard deviation of the noise that is added to the weights at each update.",
    )
    ema_decay: float = setting(
        0.0,
        low=0,
        below=1,
        traced=True,
        off=0,
        doc="Evaluate a moving average of the weights with this decay, such as 0.999; 0: do not.",
    )
    log_every: int = setting(
        50, low=1, high=_COUNT, unit="steps", doc="Steps that are averaged in one record."
    )
    eval_every: int = setting(
        200,
        low=1,
        high=_COUNT,
        unit="steps",
        doc="Steps between evaluations.",
    )
    select: str = setting("validation/loss", doc="Metric that selects the best weights of a run.")
    patience: int = setting(
        0,
        low=0,
        high=_COUNT,
        unit="evaluations",
        doc="A run stops after this many evaluations without improvement; 0: never.",
    )


@dataclass(frozen=True)
class CheckpointSettings:
    """The section `checkpoint` of a config."""

    every_steps: int = setting(
        0,
        low=0,
        high=_COUNT,
        unit="steps",
        machine=True,
        doc="Steps between checkpoints; 0: only time decides.",
    )
    every_seconds: float = setting(
        60.0, low=0, high=1e9, unit="s", machine=True, doc="Time between checkpoints."
    )
    keep: int = setting(
        2, low=1, high=10**6, machine=True, doc="Number of checkpoints that are kept."
    )


@dataclass(frozen=True)
class LogSettings:
    """The section `log` of a config."""

    trackers: tuple[str, ...] = setting(
        ("tensorboard",),
        machine=True,
        doc="Programs that show the runs: tensorboard, wandb, mlflow or your own TRACKERS.",
    )
    project: str = setting(
        "",
        machine=True,
        doc='Project of wandb, or experiment of mlflow; "": the name of the experiment.',
    )


@dataclass(frozen=True)
class ParallelSettings:
    """The section `parallel` of a config."""

    mode: str = setting(
        "pjit",
        choices=("pjit", "pmap"),
        machine=True,
        doc="How JAX divides a program over devices.",
    )
    data: int = setting(
        1,
        low=0,
        high=2**20,
        machine=True,
        doc="Devices that share a batch; 0: one, or for a lone run several if that is faster.",
    )
    member: int = setting(
        0,
        low=0,
        high=2**20,
        machine=True,
        doc="Devices that share the runs of a group; 0: all remaining ones.",
    )
    call_seconds: float = setting(
        2.0,
        low=0,
        high=1e9,
        unit="s",
        machine=True,
        doc="Target duration of a call to the device.",
    )
    vmap_members: int | None = setting(
        None,
        kind=int,
        low=0,
        high=2**20,
        machine=True,
        doc="Runs of a device in one vmap; 0: as many as fit in memory; None: 1 on a CPU, else 0.",
    )
    memory_gb: float | None = setting(
        None,
        kind=float,
        above=0,
        high=1e6,
        unit="GiB",
        machine=True,
        doc="Usable memory of a device; None: nearly all.",
    )
    shrink_gain: float = setting(
        2.0,
        low=0,
        high=1e9,
        machine=True,
        doc="Compile again for fewer members if that saves this many times the compilation time.",
    )
    deterministic: bool = setting(
        False, machine=True, doc="On a GPU: bit-identical results each time, but slower."
    )
    compilation_cache: bool = setting(
        True, machine=True, doc="Keep compiled programs in the user's cache directory."
    )
    coordinator: str = setting(
        "",
        machine=True,
        doc='"": one process; "auto": JAX finds the others; HOST:PORT of the first process.',
    )
    processes: int = setting(
        1, low=1, high=2**20, machine=True, doc="With HOST:PORT: the number of processes."
    )
    process: int = setting(
        0, low=0, high=2**20, machine=True, doc="With HOST:PORT: the index of this process."
    )
