"""Scores a finished run on a split, and each of its classes or tags.

  python -m gru_audio.evaluate --workdir runs/spoken_digit --run GRU-seed0
  python -m gru_audio.evaluate --workdir runs/one --split validation --json

--split is "train", "validation" or "test" as the run's config defines them (with its hold-out), or
the name of any split of the data set. --data scores another prepared data set; the model must know
its classes or tags. --data_dir is the folder of prepared data sets. --experiment names the
experiment file if it defines components of the run, such as a cell or a model.

Of a run with config.task.name=ctc, the errors are also divided into substitutions, insertions and
deletions, and the transcripts that no training example has are scored apart. --beam WIDTH scores a
beam search beside the greedy decoding. --lm is its language model: "train", a bigram counted from
the training texts, or an ARPA file. Its weight and the bonus of words are chosen on the validation
split. --lexicon allows words of the training texts only. --save_lm FILE.arpa keeps the language
model for `predict`.

  python -m gru_audio.evaluate --workdir runs/an4 --run GRU-seed0 --beam 16 --lm train

Each example is scored once: the whole clip, or its middle if it is longer than
config.data.crop_seconds. `predict` labels clips in the same way.
"""

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import flags

from gru_audio import command
from gru_audio.data.fields import Values, take
from gru_audio.data.split import ROLES, select
from gru_audio.paths import local_path
from gru_audio.settings import UserError, nearest
from gru_audio.sweeps.layout import Layout
from gru_audio.text import ngram as ngrams
from gru_audio.text.beam import WIDTH, BeamSearch, tune
from gru_audio.text.ngram import Ngram
from gru_audio.text.tokens import BLANK

if TYPE_CHECKING:
    from gru_audio.data.source import Source
    from gru_audio.inference.trained_model import TrainedModel
    from gru_audio.tasks.metrics import Predictions
    from gru_audio.tasks.task import Row

TRAIN = "train"  # the language model that is counted from the training texts

_WORKDIR = flags.DEFINE_string("workdir", None, "Where the run was trained.")
_RUN = flags.DEFINE_string("run", None, "The run, if the workdir has several.")
_SPLIT = flags.DEFINE_string("split", "test", "The split to score.")
_DATA = flags.DEFINE_string("data", None, "Another prepared data set.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Where data sets are prepared.")
_JSON = flags.DEFINE_bool("json", False, "Print JSON instead of a table.")
_BEAM = flags.DEFINE_integer("beam", None, "Text: width of a beam search.", lower_bound=1)
_LM = flags.DEFINE_string("lm", None, 'Text: language model of words, "train" or an ARPA file.')
_SAVE_LM = flags.DEFINE_string(
    "save_lm", None, "Text: an ARPA file to write the language model to."
)
_LEXICON = flags.DEFINE_bool("lexicon", False, "Text: only words of the training texts.")
command.define_experiment()
flags.mark_flag_as_required("workdir")

_OF_TEXT = ("beam", "lm", "save_lm", "lexicon")  # flags


def main(_: Sequence[str]) -> None:
    folder = Layout(_WORKDIR.value).find_model(_RUN.value)

    # These imports take seconds: --help does not wait for them.
    from gru_audio.data.source import open_source
    from gru_audio.inference.trained_model import TrainedModel
    from gru_audio.tasks.metrics import Predictions, measure, metrics_of
    from gru_audio.training.compilation import use_compilation_cache

    use_compilation_cache()
    trained = TrainedModel.load(folder)
    config = trained.config
    source = open_source(_DATA.value or config.data.name, _DATA_DIR.value or config.data.dir)
    if source.signal.rate != trained.signal.rate:
        raise UserError(
            f"{source.name} has {source.signal.rate} Hz, but the model was trained on "
            f"{trained.signal.rate} Hz: prepare it with --sample_rate {trained.signal.rate}."
        )
    if source.signal != trained.signal:
        raise UserError(
            f"The steps of {source.name} are {source.signal.dtype} {source.signal.shape}, but the "
            f"model was trained on {trained.signal.dtype} {trained.signal.shape}."
        )
    if not _DATA.value and source.fingerprint != trained.about.get("data_fingerprint"):
        print(
            f"warning: {source.name} has changed since {trained.about['run']} was trained on it: "
            "the scored examples may include training examples.",
            file=sys.stderr,
        )
    ids, task = _examples(source, trained), trained.program().task
    values = take(_values(source, trained), ids)
    signals = source.signals(ids)
    whole = f"{trained.about['run']} on {source.name}, {_SPLIT.value}"
    scored: dict[str, Predictions] = {whole: trained.scores(signals, task.labels(values))}
    search: dict[str, Any] = {}
    if task.predicts == "text":
        search = _add_text_scores(scored, source, trained, signals, values["text"])
    elif used := [name for name in _OF_TEXT if flags.FLAGS[name].present]:
        raise UserError(f"--{used[0]} does not apply: {trained.about['run']} gives no text.")

    metrics, tables = metrics_of(task), {name: task.table(part) for name, part in scored.items()}
    measured = {name: measure(metrics, part) for name, part in scored.items()}
    if _JSON.value:
        parts = {name: {"metrics": measured[name], "classes": tables[name]} for name in scored}
        about = {"split": _SPLIT.value, **parts.pop(whole)}
        print(json.dumps(about | ({"search": search, "parts": parts} if parts else {})))
        return
    for name, values in measured.items():
        summary = ", ".join(f"{metric} {value:.4f}" for metric, value in values.items())
        print(f"{name}: {summary}")
        _show(tables[name])
    if search:
        print(", ".join(f"{name} {value}" for name, value in search.items()))


def _show(rows: Sequence["Row"]) -> None:
    """Prints a table of the classes, tags or units of text."""
    from rich.table import Table

    from gru_audio.inference.printer import plain_console

    if not rows:
        return
    name, count, *metric_names = rows[0]
    table = Table(name)
    for column in (count, *metric_names):
        table.add_column(column, justify="right")
    for row in rows:
        cells = ["-" if row[x] is None else f"{row[x]:.1%}" for x in metric_names]
        table.add_row(row[name], str(row[count]), *cells)
    plain_console().print(table)


def _add_text_scores(
    scored: dict[str, "Predictions"],
    source: "Source",
    trained: "TrainedModel",
    signals: Sequence[np.ndarray],
    texts: np.ndarray,
) -> dict[str, Any]:
    """Adds the scores of a beam search, and of sentences that training lacks.

    Args:
      scored: scores of greedy decoding by name; more are added.
      source: the data set that is scored.
      trained: the model.
      signals: the scored signals.
      texts: their transcripts (N,).

    Returns:
      The settings of the beam search; {} without one.
    """
    from gru_audio.data.source import open_source
    from gru_audio.inference.transcriber import Transcriber, beam_search

    data, transcriber = trained.config.data, Transcriber(trained)
    for remark in transcriber.tokens.remarks(texts):
        print(f"note: {source.name}, {_SPLIT.value}: {remark}", file=sys.stderr)
    own = None  # the data set of the run, as far as it is needed
    if _DATA.value is None or _LM.value:
        own = open_source(data.name, _DATA_DIR.value or data.dir) if _DATA.value else source
        roles, known = select(own, data, trained.config.seed), own.values(data.target)["text"]
    settings: dict[str, Any] = {}
    if _BEAM.value:
        ngram = None
        if own and _LM.value:
            ngram = _language_model(trained, _LM.value, known[roles["train"]])
        search = beam_search(trained, _BEAM.value, ngram, lexicon=_LEXICON.value)
        settings = {"beam": search.width, "lexicon": _LEXICON.value}
        if own and ngram:
            if len(validation := roles["validation"]):
                log_probs = transcriber.log_probs(own.signals(validation))
                search = tune(search, log_probs, known[validation].tolist())
            settings |= {"lm": _LM.value, "lm_weight": search.alpha, "word_bonus": search.beta}
        (scores,) = scored.values()
        scored["beam search"] = {**scores, "hypothesis": _searched(trained, search, signals)}
    elif used := [name for name in _OF_TEXT if flags.FLAGS[name].present]:
        raise UserError(f"--{used[0]} needs a beam search: add --beam {WIDTH}.")
    new = np.flatnonzero(~np.isin(texts, known[roles["train"]])) if own else ()
    if 0 < len(new) < len(texts):
        for name, scores in list(scored.items()):
            scored[f"{name}, {len(new)} sentences that training lacks"] = take(scores, new)
    return settings


def _language_model(trained: "TrainedModel", name: str, texts: np.ndarray) -> Ngram:
    """Returns the language model that --lm names, and writes it if --save_lm says so."""
    from gru_audio.inference.transcriber import read_language_model

    counted = name == TRAIN
    ngram = ngrams.count(texts.tolist()) if counted else read_language_model(trained, name)
    if _SAVE_LM.value:
        ngrams.write_arpa(local_path(_SAVE_LM.value), ngram)
    return ngram


def _searched(
    trained: "TrainedModel", search: BeamSearch, signals: Sequence[np.ndarray]
) -> np.ndarray:
    """Returns the token ids that a beam search finds, int32 (N, W), padded by blanks."""
    from gru_audio.inference.transcriber import Transcriber

    transcriber = Transcriber(trained, search)
    ids = [transcriber.ids(log_probs) for log_probs in transcriber.log_probs(signals)]
    rows = np.full((len(ids), max(1, *map(len, ids))), BLANK, np.int32)
    for row, found in zip(rows, ids, strict=True):
        row[: len(found)] = found
    return rows


def _examples(source: "Source", trained: "TrainedModel") -> np.ndarray:
    """Returns the example ids to score: a role of the run, or a split of the data set."""
    split = _SPLIT.value
    if _DATA.value is None and split in ROLES:
        ids = select(source, trained.config.data, trained.config.seed)[split]
    elif split in source.splits():
        known = source.known(trained.config.data.target)
        ids = np.flatnonzero((source.columns["split"] == split) & known)
    else:
        choices = {*ROLES, *source.splits()}
        raise UserError(f'{source.name} has no split "{split}".{nearest(split, choices)}')
    if not len(ids):
        raise UserError(f'There are no examples in split "{split}" of {source.name}.')
    return ids


def _values(source: "Source", trained: "TrainedModel") -> Values:
    """Returns every example's value of the model's field, with the model's class indices."""
    target = trained.config.data.target
    field, values = source.field(target), source.values(target)
    if trained.field is None or field is None:
        return values
    return trained.field.matched(field, values, source.name)


if __name__ == "__main__":
    command.run(main)
