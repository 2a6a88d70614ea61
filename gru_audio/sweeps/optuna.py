"""Trials that Optuna proposes, in rounds: each round follows from the scores of earlier ones.

The tree-structured Parzen estimator (TPE; Bergstra et al. 2011, "Algorithms for Hyper-Parameter
Optimization") models good and bad values of each hyperparameter. Optuna gets the scores from the
results in the workdir each time, so it proposes the same trials after a kill.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from gru_audio.settings import UserError
from gru_audio.sweeps.trials import Choice, Range

if TYPE_CHECKING:
    import optuna

_TRIES = 100  # proposals for a trial, since duplicates are discarded


class Outcome(NamedTuple):
    """The score of a trial, over its replicates.

    Attributes:
      value: mean of the selection metric, negated if higher is better; None: a replicate failed.
      dropped_at: step at which halving dropped the trial, else 0.
    """

    value: float | None
    dropped_at: int = 0


Outcomes = Sequence[Sequence[Outcome]]  # of the trials of each round


@dataclass(frozen=True)
class Search:
    """The trials of a sweep, chosen for each variant by TPE.

    The trials of a round train together. The first round is random and the same for all variants.

    Attributes:
      count: number of trials of each variant.
      per_round: number of trials of a round. Smaller rounds learn more from each trial; larger ones
        use the devices better.
      seed: equal seeds and scores give equal trials, with the same version of Optuna.
      distributions: config key -> `log_uniform(..)`, `uniform(..)` or `choice(..)` of
        `gru_audio.sweeps.trials`.
      outcomes: scores of the trials so far, by variant; the sweep fills it in.

    Raises:
      UserError: a number is not positive, or a distribution is of another kind.
    """

    count: int
    per_round: int
    seed: int
    distributions: Mapping[str, Range | Choice]
    outcomes: Mapping[str, Outcomes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.count < 1 or self.per_round < 1:
            raise UserError(
                f"Search: count={self.count} and per_round={self.per_round} must be at least 1."
            )
        for name, distribution in self.distributions.items():
            if not isinstance(distribution, Range | Choice):
                raise UserError(
                    f"Search: {name} must be log_uniform(..), uniform(..) or choice(..)."
                )

    @property
    def rounds(self) -> int:
        """Number of rounds."""
        return -(-self.count // self.per_round)

    def description(self) -> dict[str, Any]:
        """Returns what determines the trials besides the scores, for `sweep.json`."""
        return {
            "sampler": "tpe",
            "count": self.count,
            "per_round": self.per_round,
            "seed": self.seed,
            "distributions": {name: repr(each) for name, each in self.distributions.items()},
        }

    def trials(self, variant: str) -> list[list[dict[str, Any]]]:
        """Returns a variant's trials by round, up to the round whose scores are not known yet.

        Raises:
          UserError: Optuna is missing, or the distributions have too few different points.
        """
        try:
            import optuna
        except ImportError as error:
            raise UserError(
                f'A Search needs Optuna ({error}): pip install "gru-audio[optuna]"'
            ) from error
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = optuna.samplers.TPESampler(
            n_startup_trials=self.per_round, seed=self.seed, constant_liar=True
        )
        study = optuna.create_study(sampler=sampler)
        known = self.outcomes.get(variant, ())
        rounds: list[list[dict[str, Any]]] = []
        for number in range(min(len(known) + 1, self.rounds)):
            asked = self._ask(study, [point for each in rounds for point in each])
            rounds.append([point for _, point in asked])
            if number < len(known):
                for (proposed, _), outcome in zip(asked, known[number], strict=True):
                    _tell(study, proposed, outcome)
        return rounds

    def _ask(
        self, study: "optuna.Study", earlier: Sequence[Mapping[str, Any]]
    ) -> list[tuple["optuna.Trial", dict[str, Any]]]:
        """Returns the trials of the next round, which differ from each other and earlier ones."""
        space = _space(self.distributions)
        asked: list[tuple[optuna.Trial, dict[str, Any]]] = []
        wanted = min(self.per_round, self.count - len(earlier))
        for _ in range(_TRIES * wanted):
            if len(asked) == wanted:
                break
            proposed = study.ask(space)
            point = {
                name: distribution.value(proposed.params[name])
                for name, distribution in self.distributions.items()
            }
            if point in earlier or any(point == other for _, other in asked):
                _tell(study, proposed, None)
            else:
                asked.append((proposed, point))
        if len(asked) < wanted:
            raise UserError(
                f"Search: {self.count} trials were requested, but the distributions gave only "
                f"{len(earlier) + len(asked)} different ones."
            )
        return asked


def _space(distributions: Mapping[str, Range | Choice]) -> dict[str, Any]:
    """Returns the distributions as Optuna has them; an option is known by its number."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    return {
        name: FloatDistribution(each.low, each.high, log=each.log)
        if isinstance(each, Range)
        else CategoricalDistribution(range(len(each.options)))
        for name, each in distributions.items()
    }


def _tell(study: "optuna.Study", trial: "optuna.Trial", outcome: Outcome | None) -> None:
    """Tells Optuna the score of a trial; None: it is a duplicate."""
    from optuna.trial import TrialState

    if outcome is None:
        study.tell(trial, state=TrialState.FAIL)  # the sampler ignores it
    elif outcome.value is None:
        study.tell(trial, state=TrialState.PRUNED)  # without a value it is the worst
    elif outcome.dropped_at:
        trial.report(outcome.value, outcome.dropped_at)
        study.tell(trial, state=TrialState.PRUNED)
    else:
        study.tell(trial, outcome.value)
