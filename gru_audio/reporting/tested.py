"""The data set that the runs of a sweep were tested on, where it is at hand."""

from gru_audio.config import UserError
from gru_audio.data.source import Source, open_source
from gru_audio.reporting.results import Results, Run


def tested_source(results: Results, run: Run) -> Source:
    """The data set that a run was tested on.

    Raises:
      UserError: it is not prepared here, or has changed since.
    """
    source = open_source(run.config["data.name"], run.config.get("data.dir"))
    if source.fingerprint != results.data_fingerprint:
        raise UserError(f"{source.name} has changed since the runs were tested on it.")
    return source
