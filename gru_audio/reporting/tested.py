"""The data set that the runs of a sweep were tested on, where it is at hand."""

from gru_audio.data.source import Source, open_source
from gru_audio.reporting.results import Results, Run
from gru_audio.settings import UserError


def tested_source(results: Results, run: Run) -> Source:
    """The data set that a run was tested on.

    Raises:
      UserError: it is not prepared here, it has changed since, or the run's config is damaged.
    """
    name, folder = run.config.get("data.name"), run.config.get("data.dir")
    if not isinstance(name, str) or not isinstance(folder, str | None):
        raise UserError(f"the config of run {run.name} is missing or damaged.")
    source = open_source(name, folder)
    if source.fingerprint != results.data_fingerprint:
        raise UserError(f"{source.name} has changed since the runs were tested on it.")
    return source
