"""Transcription with connectionist temporal classification (CTC, Graves et al. 2006).

The model outputs a blank or a token for every frame. The probability of a text is the sum over all
sequences of outputs that give the text once repeated tokens are merged and blanks are removed.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from gru_audio.data.fields import Field, TextField, Values, shorten
from gru_audio.data.split import ROLES
from gru_audio.settings import UserError, setting
from gru_audio.tasks.metrics import LOSS, Mean, Metric, Predictions
from gru_audio.tasks.task import Row, Stored, Task
from gru_audio.tasks.transcripts import (
    CharacterErrorRate,
    SentenceErrorRate,
    WordErrorRate,
    WordErrors,
)
from gru_audio.text.tokens import BLANK, CHARACTERS, WORDS, Tokens

_MOST_UNUSABLE = 0.01  # of the training examples
_SHOWN = 10  # clips in a note
_EPSILON = 1e-9  # added to token frequencies, because a token may be absent from training


@dataclass(frozen=True)
class Ctc(Task):
    """Transcription into the tokens `output_names`.

    An example has no loss if its text needs more frames than the model outputs, or has an unknown
    token: it adds no terms. Its transcript is scored like all others.
    """

    output_names: tuple[str, ...]
    tokens: str = setting(
        CHARACTERS,
        doc=f'"{CHARACTERS}" or "{WORDS}" of the training texts, or a file with a token per line.',
    )

    needs: ClassVar[type[Field] | None] = TextField
    predicts: ClassVar[str] = "text"
    per_frame: ClassVar[bool] = True
    aligned: ClassVar[bool] = False
    mixable: ClassVar[bool] = False
    croppable: ClassVar[bool] = False
    output_words: ClassVar[tuple[str, str]] = ("token", "tokens")
    trivial: ClassVar[str] = "token frequencies"

    @classmethod
    def field_for(cls, field: TextField, config: ConfigDict) -> TextField:
        """Returns the field with the tokens that the config names."""
        return (
            field if field.tokens else replace(field, tokens=Tokens.of(config.tokens, field).names)
        )

    @functools.cached_property
    def token_set(self) -> Tokens:
        """The tokens with their ids."""
        return Tokens.named(self.output_names, self.tokens)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Error rates of characters, words and sentences, and the loss."""
        rates = CharacterErrorRate, WordErrorRate, SentenceErrorRate
        return (*(rate(self.token_set) for rate in rates), LOSS)

    @property
    def example_metric(self) -> Mean:  # type: ignore[override]
        """The number of word errors of a transcript."""
        return WordErrors(self.token_set)

    @property
    def outputs(self) -> int:
        """The number of tokens, and the blank."""
        return 1 + len(self.output_names)

    @property
    def names_of_outputs(self) -> tuple[str, ...]:
        """The blank and the tokens."""
        return ("<blank>", *self.output_names)

    def labels(self, values: Values) -> Values:
        """Returns the token ids of each text, int32 (N, U), padded by blanks."""
        ids = [self.token_set.encode(text) for text in values["text"].tolist()]
        labels = np.zeros((len(ids), max(1, *map(len, ids))), np.int32)
        for row, of_text in zip(labels, ids, strict=True):
            row[: len(of_text)] = of_text
        return labels

    def remarks(
        self,
        values: Values,
        labels: np.ndarray,
        frames: np.ndarray,
        clips: np.ndarray,
        ids: Mapping[str, np.ndarray],
    ) -> list[str]:
        """Returns notes on tokens that training lacks, and on examples without a loss.

        Raises:
          UserError: more than 1 % of the training examples have no loss.
        """
        used = np.unique(np.concatenate([ids[role] for role in ROLES]))
        notes = self.token_set.remarks(values["text"][used].tolist())
        usable = np.asarray(self.usable(jnp.asarray(labels), jnp.asarray(frames)))
        if usable[used].all():
            return notes
        names = clips[used][~usable[used]]
        notes.append(
            f"{names.size} of {used.size} examples have no loss, since their text has unknown "
            f"tokens, or needs more frames than the model outputs: {shorten(names, _SHOWN)}."
        )
        lost = (~usable[ids["train"]]).mean()
        if lost > _MOST_UNUSABLE:
            raise UserError(
                f"{lost:.1%} of the training examples have no loss. {notes[-1]} Reduce "
                "config.frontend.stack, or the strides and pooling of config.model.conv; or add "
                "the tokens to config.task.tokens."
            )
        return notes

    def usable(self, labels: jax.Array, lengths: jax.Array) -> jax.Array:
        """Returns which examples have a loss (B,).

        Equal tokens in a row need a blank between them.

        Args:
          labels: token ids (B, U).
          lengths: number of output frames (B,).
        """
        is_token = labels != BLANK
        repeats = (labels[:, 1:] == labels[:, :-1]) & is_token[:, 1:]
        known = (labels < self.outputs).all(-1)
        return known & (is_token.sum(-1) + repeats.sum(-1) <= lengths)

    def loss(
        self, outputs: jax.Array, targets: jax.Array, lengths: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Returns the negative log-probability of each text in nats (B,), and its tokens (B,).

        An empty text counts as one token.
        """
        usable = self.usable(targets, lengths)
        valid = jnp.arange(outputs.shape[1]) < lengths[:, None]
        # Padding may hold NaN, and an impossible alignment has a finite but meaningless gradient.
        logits = jnp.where((valid & usable[:, None])[..., None], outputs, 0)
        labels = jnp.where(usable[:, None], targets, BLANK)
        loss = optax.ctc_loss(
            logits,
            1.0 - valid.astype(logits.dtype),
            labels,
            (labels == BLANK).astype(logits.dtype),
            blank_id=BLANK,
        )
        loss = jnp.where(usable, jnp.maximum(loss, 0), 0)  # optax may round below zero
        tokens = (targets != BLANK).sum(-1, dtype=jnp.float32)
        return loss, jnp.where(usable, jnp.maximum(tokens, 1), 0)

    def score(
        self, outputs: jax.Array, targets: jax.Array, lengths: jax.Array
    ) -> dict[str, jax.Array]:
        """Returns loss and tokens (B,), the reference (B, U), and the greedy hypothesis (B, T)."""
        scores = super().score(outputs, targets, lengths)
        return scores | {"reference": targets, "hypothesis": greedy(outputs, lengths)}

    @property
    def stored(self) -> Mapping[str, Stored]:
        """Description of what `score` returns."""
        return {
            **super().stored,
            "reference": Stored("iu", (None,), below=self.outputs + 1),
            "hypothesis": Stored("iu", (None,), below=self.outputs),
        }

    def table(self, predictions: Predictions) -> list[Row]:
        """Returns a row for characters and for words: their number and the errors per unit."""
        rates = {"characters": CharacterErrorRate, "words": WordErrorRate}
        rows: list[Row] = []
        for unit, rate in rates.items():
            counts = rate(self.token_set).parts(predictions)._asdict()
            length = counts.pop("length")
            ratios = {name: n / length if length else None for name, n in counts.items()}
            rows.append({"unit": unit, "count": length, **ratios})
        return rows

    def in_words(self, predictions: Predictions, row: int) -> tuple[str, str]:
        """Returns the reference and the hypothesis."""
        reference, hypothesis = (predictions[name][row] for name in ("reference", "hypothesis"))
        return self.token_set.decode(reference), self.token_set.decode(hypothesis)

    def target_sums(self, targets: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns the number of each output if all other frames are blank, and of all frames."""
        counts = jax.nn.one_hot(targets, self.outputs).sum((0, 1)).at[BLANK].set(0)
        frames = lengths.sum().astype(jnp.float32)
        return counts.at[BLANK].set(frames - counts.sum()), frames

    def trivial_outputs(self, mean: jax.Array, lengths: jax.Array, steps: int) -> jax.Array:
        """Returns the log-frequencies of the outputs in the training split, (B, T, outputs)."""
        shape = (len(lengths), steps, self.outputs)
        return jnp.broadcast_to(jnp.log(jnp.maximum(mean, _EPSILON)), shape)


def greedy(outputs: jax.Array, lengths: jax.Array) -> jax.Array:
    """Returns the tokens of the most probable outputs, int32 (B, T), padded by blanks.

    Args:
      outputs: logits (B, T, outputs).
      lengths: number of valid frames (B,).
    """
    best = outputs.argmax(-1).astype(jnp.int32)
    time = best.shape[1]
    previous = jnp.pad(best, ((0, 0), (1, 0)), constant_values=BLANK)[:, :-1]
    kept = (best != BLANK) & (best != previous) & (jnp.arange(time) < lengths[:, None])
    place = jnp.where(kept, jnp.cumsum(kept, axis=1) - 1, time)
    rows = jnp.arange(len(best))[:, None]
    return jnp.zeros_like(best).at[rows, place].set(best, mode="drop")
