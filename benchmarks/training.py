"""Training in the database, against the same compiled loop in RAM and against an export in every epoch."""

import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
from pipeline import training_db
from pipeline.databases import in_schema, session
from pipeline.user_code import build_architecture, build_optimizer, load_keras

from benchmarks import copy_format, data, stored
from benchmarks.figures import Figure, speed, timed

ROWS = 10_240
ROWS_PER_BLOCK = 512
BATCH_SIZE = 128
LEARNING_RATE = 0.001
DATASET = "benchmark training"


def measure(rounds: int) -> list[Figure]:
    """Return rows/s of one epoch in the database relative to the two peers."""
    architecture = build_architecture(data.SHAPE, len(data.CLASSES))
    with stored.training_rows(DATASET, ROWS, ROWS_PER_BLOCK) as (features, labels):
        epochs: dict[str, Callable[[], object]] = {
            "ram": _ram_epoch(architecture.json, features, labels),
            "ours": _database_epoch(architecture),
            "export": _export_epoch(architecture.json),
        }
        for first_epoch in epochs.values():
            first_epoch()
        durations = timed(rounds, epochs)
    weights = f"{architecture.weight_count:,} weights"
    model = f"{weights}, {ROWS:,} rows per epoch, blocks of {ROWS_PER_BLOCK}, batch {BATCH_SIZE}"
    return [
        speed(f"Training in the database ({model})", durations["ours"], durations["ram"],
              "the same compiled loop on arrays in RAM", 0.98, ROWS),
        speed("Training in the database", durations["ours"], durations["export"],
              "export by COPY BINARY in each epoch, then `model.fit`", 1.10, ROWS),
    ]  # fmt: skip


def _database_epoch(architecture: Any) -> Callable[[], object]:
    """Return an epoch as train_model runs it: fit, with weights and slots sent and received."""
    connection = session("trainer")
    with connection:
        training_db.prepare_session(connection, greenplum=False)
    parameters = {"batch_size": BATCH_SIZE, "seed": 1}
    optimizer = build_optimizer(LEARNING_RATE)
    state, epoch = b"", 0

    def run() -> None:
        nonlocal state, epoch
        epoch += 1
        config = training_db.model_config(
            architecture.json, data.SHAPE, len(data.CLASSES), "uint8", parameters, optimizer, epoch
        )
        with connection:
            fitted = training_db.fit(connection, DATASET, state, config, architecture.weight_count)
        state = fitted.weights + fitted.optimizer_slots

    return run


def _ram_epoch(architecture: str, features: np.ndarray, labels: np.ndarray) -> Callable[[], object]:
    """Return an epoch of the loop that model_transition compiles, over all rows, shuffled."""
    train = _compiled_loop(architecture)
    random = np.random.default_rng(data.SEED)

    def run() -> None:
        order = random.permutation(len(labels))
        loss, _ = train(features[order], labels[order])
        if not np.isfinite(float(loss)):
            raise ValueError("the peer in RAM has diverged: its loss is not a number")

    return run


def _compiled_loop(architecture: str) -> Any:
    keras = load_keras()
    import tensorflow as tf

    keras.utils.set_random_seed(1)
    model = keras.models.model_from_json(architecture)
    optimizer = keras.optimizers.deserialize(build_optimizer(LEARNING_RATE))
    optimizer.build(model.trainable_variables)

    def epoch(images: Any, y: Any) -> Any:
        rows = tf.shape(images)[0]

        def batch(low: Any, loss_sum: Any, correct: Any) -> Any:
            high = tf.minimum(low + BATCH_SIZE, rows)
            with tf.GradientTape() as tape:
                probabilities = model(images[low:high], training=True)
                losses = keras.losses.sparse_categorical_crossentropy(y[low:high], probabilities)
                loss = tf.reduce_mean(losses)
            gradients = tape.gradient(loss, model.trainable_variables)
            optimizer.apply(gradients, model.trainable_variables)
            best = tf.argmax(probabilities, axis=1, output_type=tf.int32)
            right = tf.reduce_sum(tf.cast(best == y[low:high], tf.int64))
            return high, loss_sum + tf.cast(tf.reduce_sum(losses), tf.float64), correct + right

        start = [tf.constant(0), tf.constant(0.0, tf.float64), tf.constant(0, tf.int64)]
        _, loss_sum, correct = tf.while_loop(lambda low, *_: low < rows, batch, start, parallel_iterations=1)
        return loss_sum, correct

    signature = [tf.TensorSpec((None, *data.SHAPE), tf.uint8), tf.TensorSpec((None,), tf.int32)]
    return tf.function(epoch, autograph=False, input_signature=signature)


def _export_epoch(architecture: str) -> Callable[[], object]:
    """Return an epoch without training in the database: export all rows, then fit."""
    keras = load_keras()
    connection = session("training-deployer")
    model = keras.models.model_from_json(architecture)
    optimizer = keras.optimizers.deserialize(build_optimizer(LEARNING_RATE))
    model.compile(optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"])

    def run() -> None:
        features, labels = _exported(connection)
        model.fit(features, labels, batch_size=BATCH_SIZE, epochs=1, verbose=0)

    return run


def _exported(connection: Any) -> tuple[np.ndarray, np.ndarray]:
    copied = io.BytesIO()
    with connection, connection.cursor() as cursor:
        statement = cursor.mogrify(
            in_schema("COPY (SELECT features, labels FROM {schema}.dataset_batch WHERE dataset = %s) ")
            + "TO STDOUT (FORMAT binary)",
            (DATASET,),
        )
        cursor.copy_expert(statement, copied, size=1 << 20)
    rows = list(copy_format.read(copied.getbuffer()))
    features = np.frombuffer(b"".join(images for images, _ in rows), np.uint8)
    labels = np.frombuffer(b"".join(labels for _, labels in rows), "<i4")
    return features.reshape(-1, *data.SHAPE), labels


def small_architecture() -> str:
    """Return a model that trains ten times as many rows in a few seconds, as Keras JSON."""
    keras = load_keras()
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input(shape=data.SHAPE, name="images"),
            layers.Rescaling(1 / 255),
            layers.Conv2D(8, 4, strides=4, activation="relu"),
            layers.Flatten(),
            layers.Dense(len(data.CLASSES), activation="softmax"),
        ]
    )
    description = json.loads(model.to_json())
    for key in ("compile_config", "build_config"):
        description.pop(key, None)
    return json.dumps(description, sort_keys=True)
