"""The data set: replace it with your own. The pipeline calls `load` only."""

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_digits


def load() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], list[str]]:
    """Return 1,797 handwritten digits: images (n, 8, 8, 1) uint8, labels (n,) integers, class names.

    The images come with scikit-learn (UCI "Optical Recognition of Handwritten Digits"), so no
    network is needed. Their 17 grey levels are scaled to 0–255.
    """
    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)
    return images[..., np.newaxis], digits.target, [str(digit) for digit in range(10)]
