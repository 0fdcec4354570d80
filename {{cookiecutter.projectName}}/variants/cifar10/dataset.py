"""The data set: replace it with your own. The pipeline calls `load` only."""

import keras
import numpy as np
import numpy.typing as npt

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def load() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], list[str]]:
    """Return CIFAR-10: 60,000 colour images (n, 32, 32, 3) uint8, labels (n,) integers, class names.

    Keras downloads the files once to `~/.keras/datasets` (or below `KERAS_HOME`). Its own division
    into training and test rows is not used: a row's split is a function of the row
    (pipeline/data/mini_batches.py).
    """
    (train_images, train_labels), (test_images, test_labels) = keras.datasets.cifar10.load_data()
    images = np.concatenate([train_images, test_images])
    labels = np.concatenate([train_labels, test_labels]).reshape(-1)
    return images, labels, CLASSES
