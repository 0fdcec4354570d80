"""The data set: yours to change. `load` is all that the pipeline asks of it."""

import keras
import numpy as np

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def load() -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return CIFAR-10: 60,000 colour images (n, 32, 32, 3) uint8, labels (n,) integers, class names.

    Keras downloads the files once into `~/.keras/datasets` (`KERAS_HOME` moves it) and reads them
    from there afterwards. Its own train/test division is not used: a row's split is a function of
    the row (pipeline/data/mini_batches.py).
    """
    (train_images, train_labels), (test_images, test_labels) = keras.datasets.cifar10.load_data()
    images = np.concatenate([train_images, test_images])
    labels = np.concatenate([train_labels, test_labels]).reshape(-1)
    return images, labels, CLASSES
