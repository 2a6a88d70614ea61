"""What a config says of training itself, of saving, and of the devices."""

from dataclasses import dataclass

from gru_audio.settings import setting

_COUNT = 2**31 - 1  # steps and frames are int32
_FLOAT = 3e38  # nearly the largest float32


@dataclass(frozen=True)
class TrainSettings:
    """The section `train` of a config."""

    batch_size: int = setting(32, low=1, high=2**20, unit="examples", doc="Examples of an update.")
    steps: int = setting(3000, low=1, high=_COUNT, traced=True, doc="Updates.")
    grad_accumulation: int = setting(
        1,
        low=1,
        high=2**20,
        doc="The parts of a batch that go through the model one after another, to save memory.",
    )
    tbptt_frames: int = setting(
        0,
        low=0,
        high=_COUNT,
        unit="frames",
        doc="Gradients flow back through this many frames; 0: through all.",
    )
    skip_nonfinite: int = setting(
        0,
        low=0,
        high=_COUNT,
        doc="This many updates may be left out for NaN or infinity before a run stops.",
    )
    weight_noise: float = setting(
        0.0,
        low=0,
        high=_FLOAT,
        traced=True,
        zero_is_off=True,
        doc="The standard deviation of noise on the weights, drawn for each update.",
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
    select: str = setting(
        "validation/loss", doc="The metric that chooses the best parameters of a run."
    )
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
        doc="Steps between checkpoints; 0: time alone decides.",
    )
    every_seconds: float = setting(
        60.0, low=0, high=1e9, unit="s", machine=True, doc="Time between checkpoints."
    )
    keep: int = setting(2, low=1, high=10**6, machine=True, doc="Checkpoints that are kept.")


@dataclass(frozen=True)
class ParallelSettings:
    """The section `parallel` of a config."""

    mode: str = setting(
        "pjit", choices=("pjit", "pmap"), machine=True, doc="How a program is divided over devices."
    )
    data: int = setting(1, low=1, high=2**20, machine=True, doc="Devices that share a batch.")
    member: int = setting(
        0,
        low=0,
        high=2**20,
        machine=True,
        doc="Devices that share the runs of a group; 0: all that are left.",
    )
    call_seconds: float = setting(
        2.0,
        low=0,
        high=1e9,
        unit="s",
        machine=True,
        doc="Aimed length of a call to the device.",
    )
    vmap_members: int | None = setting(
        None,
        kind=int,
        low=0,
        high=2**20,
        machine=True,
        doc="Runs that a device steps at a time; 0: as many as fit; None: one on a CPU, else 0.",
    )
    memory_gb: float | None = setting(
        None,
        kind=float,
        above=0,
        high=1e6,
        unit="GiB",
        machine=True,
        doc="Memory of a device that may be used; None: nearly all.",
    )
    shrink_gain: float = setting(
        2.0,
        low=0,
        high=1e9,
        machine=True,
        doc="Compile for fewer members where this many seconds are saved for each one it takes.",
    )
    deterministic: bool = setting(
        False, machine=True, doc="On a GPU: the same bits each time, more slowly."
    )
    coordinator: str = setting(
        "",
        machine=True,
        doc='"": one process; "auto": JAX finds the others; HOST:PORT of the first process.',
    )
    processes: int = setting(
        1, low=1, high=2**20, machine=True, doc="With HOST:PORT: how many processes there are."
    )
    process: int = setting(
        0, low=0, high=2**20, machine=True, doc="With HOST:PORT: the number of this process."
    )
