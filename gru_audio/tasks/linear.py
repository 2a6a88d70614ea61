"""A linear classifier of vectors: what a network on sequences should beat."""

import warnings

import numpy as np

_LEAST = -30.0  # log-probability of a class without a training example
_ITERATIONS = 300


def log_probabilities(
    training: np.ndarray, labels: np.ndarray, test: np.ndarray, classes: int
) -> np.ndarray:
    """Class log-probabilities by logistic regression, fitted on standardised features.

    Args:
      training: (N, D), finite.
      labels: class of each (N,) int.
      test: (M, D), finite.
      classes: how many there are; those without a training example become very unlikely.

    Returns:
      float64 (M, classes).
    """
    # Importing scikit-learn takes a second, which those who only train should not wait for.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    result = np.full((len(test), classes), _LEAST)
    present = np.unique(labels)
    if len(present) == 1:
        result[:, present[0]] = 0.0
        return result
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=_ITERATIONS))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # nearly converged is good enough
        model.fit(training.astype(np.float64), labels)
    result[:, present] = np.maximum(model.predict_log_proba(test.astype(np.float64)), _LEAST)
    return result
