"""Images that are nearly equal, compared as thumbnails."""

from typing import Any

import numpy as np
import numpy.typing as npt

THUMBNAIL_PIXELS = 16
# Largest root mean square difference of near-duplicates, in standard deviations of the data set's thumbnails. Of the
# digits that scikit-learn brings, 1 of 100 has a neighbour that near; a copy with noise of one level is nearer.
NEAR = 0.25
ROWS_AT_ONCE = 512


def thumbnails(features: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return (n, values) float32: the means of the parts of each image, at most THUMBNAIL_PIXELS in each direction."""
    height, width = (min(THUMBNAIL_PIXELS, size) for size in features.shape[1:3])
    rows = np.arange(height) * features.shape[1] // height
    columns = np.arange(width) * features.shape[2] // width
    parts = np.outer(np.diff([*rows, features.shape[1]]), np.diff([*columns, features.shape[2]]))
    small = np.empty((len(features), height * width * features.shape[3]), np.float32)
    for start in range(0, len(features), ROWS_AT_ONCE):
        chunk = features[start : start + ROWS_AT_ONCE].astype(np.float32)
        sums = np.add.reduceat(np.add.reduceat(chunk, rows, axis=1), columns, axis=2)
        small[start : start + ROWS_AT_ONCE] = (sums / parts[..., np.newaxis]).reshape(len(chunk), -1)
    return small


def first_of_each(features: npt.NDArray[Any], others: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Return the numbers of the images that are no near-duplicate of an earlier one, nor of one of the `others`.

    Args:
        features: (n, height, width, channels).
        others: (m, height, width, channels), m > 0; their deviation is the measure of nearness.
    """
    known, candidates = thumbnails(others), thumbnails(features)
    limit = NEAR**2 * float(known.var(axis=0).mean())
    chosen: list[int] = []
    for start in range(0, len(candidates), ROWS_AT_ONCE):
        numbers = np.arange(start, min(start + ROWS_AT_ONCE, len(candidates)))
        for others_thumbnails in (known, candidates[chosen]):
            numbers = numbers[_are_far(candidates[numbers], others_thumbnails, limit)]
        near = _distances(candidates[numbers], candidates[numbers]) <= limit
        chosen += numbers[_first_of_groups(near)].tolist()
    return np.array(chosen, np.int64)


def _are_far(ours: npt.NDArray[np.float32], theirs: npt.NDArray[np.float32], limit: float) -> npt.NDArray[np.bool_]:
    """Return (n,) booleans: whether no thumbnail of the other (m, values) lies within the limit."""
    far = np.ones(len(ours), bool)
    for start in range(0, len(theirs), ROWS_AT_ONCE):
        far &= (_distances(ours, theirs[start : start + ROWS_AT_ONCE]) > limit).all(axis=1)
    return far


def _distances(ours: npt.NDArray[np.float32], theirs: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Return (n, m): the mean square difference of each pair of thumbnails."""
    first, second = ours.astype(np.float64), theirs.astype(np.float64)
    squares = (first**2).sum(axis=1)[:, np.newaxis] + (second**2).sum(axis=1) - 2 * first @ second.T
    distances: npt.NDArray[np.float64] = np.maximum(squares, 0) / ours.shape[1]
    return distances


def _first_of_groups(near: npt.NDArray[np.bool_]) -> list[int]:
    """Return the numbers that are near no earlier chosen number, by a symmetric matrix of nearness."""
    chosen: list[int] = []
    for number, row in enumerate(near):
        if not row[chosen].any():
            chosen.append(number)
    return chosen
