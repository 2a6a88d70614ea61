"""The layout of a workdir: where its files are, without JAX."""

from etils import epath

from gru_audio.settings import UserError, nearest


class Layout:
    """The files of one sweep's directory."""

    def __init__(self, root: epath.PathLike):
        root = epath.Path(root)
        # Orbax takes absolute paths only. An address such as gs://bucket/runs is one already.
        self.root = root if "://" in str(root) else root.expanduser().absolute()

    @property
    def sweep_file(self) -> epath.Path:
        return self.root / "sweep.json"

    @property
    def report(self) -> epath.Path:
        return self.root / "report"

    def group(self, name: str) -> epath.Path:
        """Checkpoints and metrics segments of a group."""
        return self.root / "groups" / name

    def run(self, name: str) -> epath.Path:
        """The files of a run."""
        return self.root / "runs" / name

    def model(self, run: str) -> epath.Path:
        """A run's trained model."""
        return self.run(run) / "model"

    def find_model(self, run: str | None) -> epath.Path:
        """Returns the folder of a run's trained model. If `run` is None, there must be one run.

        Raises:
          UserError: there is no such finished run, or `run` is None and there are several.
        """
        runs = self.root / "runs"
        found = sorted(path.name for path in runs.iterdir()) if runs.exists() else []
        trained = [name for name in found if (self.model(name) / "model.json").exists()]
        if not trained:
            raise UserError(f"No finished run in {self.root}{self._why_no_run()}")
        if run is None and len(trained) > 1:
            raise UserError(
                f"Several runs in {self.root}: choose one by --run. {', '.join(trained)}."
            )
        if run is not None and run not in trained:
            raise UserError(f'No finished run "{run}" in {self.root}.{nearest(run, trained)}')
        return self.model(run or trained[0])

    def _why_no_run(self) -> str:
        """Returns the end of a message on a workdir without a finished run."""
        if self.sweep_file.exists():
            return f": `gru-audio sweep --status {self.root}` shows the state of each."
        if not self.root.is_dir():
            return ", which is no folder: name the workdir of a sweep or of a training run."
        return ": name the workdir of a sweep or of a training run."

    def source(self, digest: str) -> epath.Path:
        """The copy of a trained model that runs begin with."""
        return self.root / "sources" / digest
