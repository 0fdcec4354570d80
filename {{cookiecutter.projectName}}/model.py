"""The model: yours to change. `python -m pipeline deploy_training_code` says whether it can be trained."""

import keras
from keras import layers


def build_model(shape: tuple[int, ...], classes: int, value_range: tuple[float, float] = (0, 255)) -> keras.Model:
    """Return a classifier for one row of `shape` with one probability a class.

    Images (height, width, channels) get convolutions, other rows dense layers. Rows arrive as they are stored
    (uint8 0–255 or float32), so scaling is a layer of the model: what serves is what was trained. Only layers
    that Keras itself provides reach the database. Weights that are set here are the starting weights of the training.
    `value_range` has the values of black and white; a model that needs no range may leave the parameter out.
    """
    model = keras.Sequential([keras.Input(shape=shape, name="images")])
    if len(shape) == 3:
        low, high = value_range
        model.add(layers.Rescaling(1 / (high - low), offset=-low / (high - low)))
        _add_convolutions(model, min(shape[0], shape[1]))
    else:
        model.add(layers.Flatten())
        model.add(layers.BatchNormalization())
    model.add(layers.Dense(max(64, 8 * classes), activation="relu"))
    model.add(layers.Dense(classes, activation="softmax"))
    return model


def _add_convolutions(model: keras.Sequential, size: int) -> None:
    """Halve an image of `size` pixels until 4 are left, and flatten it."""
    filters = 32
    while size > 4:
        model.add(layers.Conv2D(filters, 3, padding="same", activation="relu"))
        model.add(layers.MaxPooling2D())
        filters, size = 64, size // 2
    model.add(layers.Conv2D(64, 3, padding="same", activation="relu"))
    model.add(layers.Flatten())


def build_optimizer(learning_rate: float) -> keras.optimizers.Optimizer:
    """Return the optimizer; `learning_rate` is the parameter of `train_model` in MLproject."""
    return keras.optimizers.Adam(learning_rate)
