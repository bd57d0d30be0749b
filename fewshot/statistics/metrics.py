"""Accuracies and their intervals."""

from collections.abc import Sequence

import numpy as np

from ..errors import FewShotError

Z95 = 1.96
RESAMPLES = 2_000
# A block of the bootstrap holds at most this many drawn videos, so that memory stays small for any split.
_DRAWS_PER_BLOCK = 4_000_000


def episode_accuracy(correct: np.ndarray) -> np.ndarray:
    """Mean over the queries of each episode: bool [e, q] -> float64 [e]."""
    return correct.mean(axis=1, dtype=np.float64)


def mean_and_ci95(values: np.ndarray) -> tuple[float, float]:
    """Mean of float [e] over episodes and the half-width 1.96 sd / sqrt(e) of its 95 % interval (sample sd).

    It treats episodes as independent, as published tables do; they re-use videos, so it is too narrow as a
    statement about new classes. See `clustered_ci95`.
    """
    if len(values) < 2:
        raise FewShotError(f"an interval needs at least 2 episodes, not {len(values)}; raise --episodes")
    return float(values.mean()), float(Z95 * values.std(ddof=1) / np.sqrt(len(values)))


def per_class_accuracy(
    correct: np.ndarray, query_classes: np.ndarray, class_names: Sequence[str]
) -> dict[str, tuple[float, int]]:
    """Accuracy and number of queries of each class that was ever the query's.

    correct: bool [e, q]; query_classes: int [e, q], positions among `class_names`.
    """
    hits = np.bincount(query_classes.ravel(), weights=correct.ravel(), minlength=len(class_names))  # [classes]
    counts = np.bincount(query_classes.ravel(), minlength=len(class_names))  # [classes]
    return {
        name: (float(hit / count), int(count))
        for name, hit, count in zip(class_names, hits, counts, strict=True)
        if count
    }


def clustered_ci95(
    correct: np.ndarray,
    query_videos: np.ndarray,
    query_classes: np.ndarray,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """A 95 % interval [low, high] of the accuracy over queries, clustered by class and by video of the query.

    correct: bool [e, q], or float where heads are averaged or subtracted; query_videos: int [e, q], any numbers that
    tell videos apart; query_classes: int [e, q]. See `clustered_intervals`.
    """
    flat = (correct.reshape(-1, 1), query_videos.ravel(), query_classes.ravel())
    low, high = clustered_intervals(*flat, resamples=resamples, seed=seed)[0]
    return float(low), float(high)


def clustered_intervals(
    values: np.ndarray,
    query_videos: np.ndarray,
    query_classes: np.ndarray,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> np.ndarray:
    """95 % intervals float64 [k, 2] of the means over queries of k values, all from the same resamples.

    values: bool or float [m, k], one line a query; query_videos, query_classes: int [m].
    Ten thousand test episodes of one split ask about the same few videos of the same few classes again and again,
    so queries are far from independent. Two-stage cluster bootstrap (Davison & Hinkley, Bootstrap Methods and
    their Application, 1997, section 3.8): a resample draws as many classes as there are, with replacement, then
    within each drawn class as many of its query videos as it has, with replacement, keeping all queries of a
    drawn video; its mean is that of all kept queries. The interval is the 2.5th to the 97.5th percentile of
    `resamples` such means. Only the query's video is resampled, not its supports. The draws come from
    counter-based bits (Philox) by `seed`, so the interval is the same everywhere.
    """
    sums, counts, video_class = _per_video(values, query_videos, query_classes)
    first = np.flatnonzero(np.r_[True, video_class[1:] != video_class[:-1]])  # videos are sorted by class
    sizes = np.diff(np.r_[first, len(video_class)])  # [classes] videos of each
    bits = np.random.Philox(key=seed)
    block = max(1, _DRAWS_PER_BLOCK // int(sizes.sum()))
    means = [
        _resampled(sums, counts, first, sizes, min(block, resamples - done), bits)
        for done in range(0, resamples, block)
    ]
    return np.percentile(np.concatenate(means), [2.5, 97.5], axis=0).T  # [k, 2]


def _per_video(
    values: np.ndarray, videos: np.ndarray, classes: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sums of the values [videos, k], queries [videos] and class [videos] of each video, sorted by class."""
    pairs, inverse = np.unique(np.stack([classes, videos]), axis=1, return_inverse=True)  # [2, videos], [m]
    inverse, n = inverse.ravel(), pairs.shape[1]
    sums = np.stack([np.bincount(inverse, weights=column, minlength=n) for column in values.T], axis=1)  # [videos, k]
    return sums, np.bincount(inverse, minlength=n).astype(np.float64), pairs[0]


def _resampled(
    sums: np.ndarray, counts: np.ndarray, first: np.ndarray, sizes: np.ndarray, resamples: int, bits: np.random.Philox
) -> np.ndarray:
    """Means of bootstrap resamples, float64 [resamples, k]."""
    drawn = _integers(bits, resamples * len(sizes), len(sizes)).reshape(resamples, -1)  # [resamples, classes]
    total = np.zeros((resamples, sums.shape[1] + 1))
    columns = np.concatenate([sums, counts[:, None]], axis=1)  # [videos, k + 1]
    for number, (start, size) in enumerate(zip(first, sizes, strict=True)):
        resample, _ = np.nonzero(drawn == number)  # one entry each time the class was drawn
        videos = _integers(bits, len(resample) * size, size).reshape(-1, size)  # [drawn, size]
        cells = (resample[:, None] * size + videos).ravel()  # [drawn * size]
        times = np.bincount(cells, minlength=resamples * size).reshape(resamples, size)  # [resamples, size]
        total += times.astype(np.float64) @ columns[start : start + size]
    return total[:, :-1] / total[:, -1:]


def _integers(bits: np.random.Philox, count: int, below: int) -> np.ndarray:
    """`count` integers in [0, below), int64: the high bits of 32-bit draws (bias below `below` / 2^32)."""
    raw = bits.random_raw(count).astype(np.uint64) >> np.uint64(32)
    return ((raw * np.uint64(below)) >> np.uint64(32)).astype(np.int64)
