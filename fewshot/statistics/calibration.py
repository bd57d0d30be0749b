"""Whether a head's confidence means something: of the answers given with 80 %, are 80 % right?"""

import numpy as np

BINS = 15


def confidences(logits: np.ndarray) -> np.ndarray:
    """The probability that softmax gives the answer: float [m, way] -> float64 [m]."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)  # [m, way], the answer's is 0
    return 1 / np.exp(shifted).sum(axis=1)


def expected_calibration_error(logits: np.ndarray, labels: np.ndarray, *, bins: int = BINS) -> float:
    """ECE of Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, eq. 3.

    logits: float [m, way]; labels: int [m]. Answers are sorted by confidence into `bins` intervals (low, high] of
    equal width; ECE is the mean over answers of |share of right ones - mean confidence| of their interval: 0 is
    perfect, and says nothing of how often the head is right.
    """
    confidence = confidences(logits)  # [m]
    right = (logits.argmax(axis=1) == labels).astype(np.float64)  # [m]
    interval = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)  # [m]
    gap = np.bincount(interval, weights=right - confidence, minlength=bins)  # [bins]
    return float(np.abs(gap).sum() / len(labels))
