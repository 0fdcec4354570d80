"""Data sets and models as people write them, each as the text of dataset.py or model.py."""

SHAPES = '''"""Colour pictures of shapes on a light ground, 24 × 32 pixels, float32 from 0 to 1."""

import random

import numpy as np
from PIL import Image, ImageDraw

CLASSES = ["roter Kreis", "grünes Dreieck", "blue square (small)", "星形 star"]


def draw(kind, rng):
    image = Image.new("RGB", (32, 24), tuple(rng.randrange(90, 255) for _ in range(3)))
    pen = ImageDraw.Draw(image)
    x, y, r = rng.randrange(8, 24), rng.randrange(8, 16), rng.randrange(4, 8)
    ink = tuple(rng.randrange(0, 90) for _ in range(3))
    if kind == 0:
        pen.ellipse((x - r, y - r, x + r, y + r), fill=ink)
    elif kind == 1:
        pen.polygon([(x, y - r), (x - r, y + r), (x + r, y + r)], fill=ink)
    elif kind == 2:
        pen.rectangle((x - r, y - r, x + r, y + r), fill=ink)
    else:
        for dx, dy in ((r, 0), (0, r), (r, r), (r, -r)):
            pen.line((x - dx, y - dy, x + dx, y + dy), fill=ink, width=2)
    return np.asarray(image, np.float32) / 255


def load():
    rng = random.Random(3)
    labels = np.repeat(np.arange(4), 300)
    return np.stack([draw(kind, rng) for kind in labels]), labels, CLASSES
'''

GREY_FROM_MINUS_1 = '''"""The digits as grey values from -1 to 1."""

import numpy as np
from sklearn.datasets import load_digits


def load():
    digits = load_digits()
    levels = np.round(digits.images * (255 / 16)).astype(np.uint8)
    return (levels / 127.5 - 1).astype(np.float32)[..., np.newaxis], digits.target, [f"digit {n}" for n in range(10)]
'''

HUNDRED_CLASSES = '''"""A hundred colours of 12 × 12 pixels, uint8, in the order blue, green, red."""

import numpy as np


def load():
    rng = np.random.default_rng(5)
    labels = np.tile(np.arange(100), 75)
    hue, light = labels // 10, labels % 10
    colours = np.stack([25 * hue + 10, 25 * light + 10, 255 - 25 * hue], axis=1)
    images = colours[:, None, None] + rng.integers(-4, 5, (len(labels), 12, 12, 3))
    return np.clip(images, 0, 255).astype(np.uint8), labels, [f"colour {n:02}" for n in range(100)]
'''

LARGE_SHAPES = (
    SHAPES.replace("24 × 32 pixels, float32 from 0 to 1", "96 × 96 pixels, uint8")
    .replace("np.asarray(image, np.float32) / 255", "np.asarray(image.resize((96, 96)))")
    .replace("4), 300", "4), 100")
)

AUGMENTED = """
from keras import layers


def build_optimizer(learning_rate):
    schedule = keras.optimizers.schedules.CosineDecay(learning_rate, 400)
    return keras.optimizers.AdamW(schedule, weight_decay=1e-4)


def build_model(shape, classes):
    inputs = keras.Input(shape, name="images")
    x = layers.RandomTranslation(0.1, 0.1)(layers.RandomFlip("horizontal")(inputs))
    for filters in (16, 32, 64):
        x = layers.MaxPooling2D()(layers.Conv2D(filters, 3, padding="same", activation="relu")(x))
    x = layers.Dropout(0.1)(layers.Flatten()(x))
    return keras.Model(inputs, layers.Dense(classes, activation="softmax")(x))
"""

FROZEN_BASE = """
import numpy as np
from keras import layers


def build_optimizer(learning_rate):
    return keras.optimizers.SGD(learning_rate * 20, momentum=0.9)


def build_model(shape, classes):
    base = keras.Sequential([keras.Input(shape), layers.Flatten(), layers.Dense(128, activation="relu")], name="base")
    rng = np.random.default_rng(11)
    base.set_weights([rng.normal(0, 0.1, weight.shape) for weight in base.get_weights()])
    base.trainable = False
    return keras.Sequential([keras.Input(shape), base, layers.Dense(classes, activation="softmax")])
"""

DEPTHWISE = """
from keras import layers


def build_optimizer(learning_rate):
    return keras.optimizers.Adam(learning_rate * 2)


def block(x, filters, stride):
    y = layers.ReLU(6.0)(layers.BatchNormalization(momentum=0.9)(layers.Conv2D(2 * filters, 1, use_bias=False)(x)))
    y = layers.DepthwiseConv2D(3, strides=stride, padding="same", use_bias=False)(y)
    y = layers.ReLU(6.0)(layers.BatchNormalization(momentum=0.9)(y))
    y = layers.BatchNormalization(momentum=0.9)(layers.Conv2D(filters, 1, use_bias=False)(y))
    return layers.Add()([x, y]) if stride == 1 and x.shape[-1] == filters else y


def build_model(shape, classes):
    inputs = keras.Input(shape, name="images")
    x = layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    for filters, stride in ((16, 1), (32, 2), (32, 1)):
        x = block(x, filters, stride)
    x = layers.Concatenate()([layers.GlobalAveragePooling2D()(x), layers.GlobalAveragePooling2D()(inputs)])
    x = layers.Dense(256, activation="relu")(layers.BatchNormalization(momentum=0.9)(x))
    return keras.Model(inputs, layers.Dense(classes, activation="softmax")(x))
"""

RESIDUAL = """
from keras import layers


def build_optimizer(learning_rate):
    return keras.optimizers.Adam(learning_rate)


def block(x, filters):
    y = layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False)(x)
    y = layers.ReLU()(layers.BatchNormalization(momentum=0.8)(y))
    y = layers.BatchNormalization(momentum=0.8)(layers.Conv2D(filters, 3, padding="same", use_bias=False)(y))
    return layers.ReLU()(layers.Add()([y, layers.Conv2D(filters, 1, strides=2)(x)]))


def build_model(shape, classes):
    inputs = keras.Input(shape, name="images")
    x = layers.RandomRotation(0.05)(layers.RandomFlip("horizontal")(layers.Rescaling(1 / 255)(inputs)))
    x = layers.MaxPooling2D()(layers.Conv2D(16, 5, strides=2, padding="same", activation="relu")(x))
    for filters in (16, 32, 64):
        x = block(x, filters)
    return keras.Model(inputs, layers.Dense(classes, activation="softmax")(layers.GlobalAveragePooling2D()(x)))
"""

TWENTY_MILLION_WEIGHTS = """
from keras import layers


def build_optimizer(learning_rate):
    return keras.optimizers.SGD(learning_rate * 10)


def build_model(shape, classes):
    inputs = keras.Input(shape, name="images")
    x = layers.Dense(4450, activation="relu")(layers.Dense(4450, activation="relu")(layers.Flatten()(inputs)))
    return keras.Model(inputs, layers.Dense(classes, activation="softmax")(x))
"""

MODEL = '"""A model as people write it."""\n\nimport keras\n'
