"""The data set: yours to change. `load` is all that the pipeline asks of it."""

import numpy as np
from sklearn.datasets import load_digits


def load() -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return 1,797 handwritten digits: images (n, 8, 8, 1) uint8, labels (n,) integers, class names.

    The images come with scikit-learn (UCI "Optical Recognition of Handwritten Digits"), so no
    network is needed. Their 17 grey levels are spread over 0–255.
    """
    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)
    return images[..., np.newaxis], digits.target, [str(digit) for digit in range(10)]
