"""Linear models of fixed-size vectors: baselines for networks on sequences."""

import warnings
from collections.abc import Callable

import numpy as np

_MIN_LOG_PROBABILITY = -30.0
_ITERATIONS = 300


def log_probabilities(
    training: np.ndarray, labels: np.ndarray, test: np.ndarray, classes: int
) -> np.ndarray:
    """Returns class log-probabilities by logistic regression on standardised features.

    Args:
      training: vectors (N, D), finite.
      labels: their classes, int (N,).
      test: vectors (M, D), finite.
      classes: number of classes. Classes without a training example have log-probability -30.

    Returns:
      float64 (M, classes).
    """
    # Importing scikit-learn takes a second, and training does not need it.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    result = np.full((len(test), classes), _MIN_LOG_PROBABILITY)
    present = np.unique(labels)
    if len(present) == 1:
        result[:, present[0]] = 0.0
        return result
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=_ITERATIONS))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # nearly converged is good enough
        model.fit(training.astype(np.float64), labels)
    log_p = model.predict_log_proba(test.astype(np.float64))
    result[:, present] = np.maximum(log_p, _MIN_LOG_PROBABILITY)
    return result


def principal_components(training: np.ndarray, size: int) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the best linear autoencoder of vectors: a principal component analysis.

    Args:
      training: vectors (N, D), finite.
      size: number of components, of which there are at most min(N, D).

    Returns:
      The function from vectors (M, D) to their reconstructions (M, D).
    """
    from sklearn.decomposition import PCA

    model = PCA(min(size, *training.shape), svd_solver="randomized", random_state=0).fit(training)
    return lambda vectors: model.inverse_transform(model.transform(vectors))
