"""The loss of the aggregate `fit`."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypedDict

    class Loss(TypedDict, total=False):
        """Optional parameters of the loss."""

        # One factor per class, for the losses of its rows.
        class_weights: list[float]
        # Share of a row's target that is spread over all classes.
        label_smoothing: float


def loss_function(tf: "Any", keras: "Any", classes: int, settings: "Loss") -> "Callable[..., Any]":
    """Return a function (labels, probabilities) -> loss per row.

    It is the cross-entropy with smoothed targets, (1 - s) · one-hot + s / classes, times the weight of a row's class.
    """
    smoothing, weights = settings.get("label_smoothing", 0.0), settings.get("class_weights")

    def losses(y: "Any", probabilities: "Any") -> "Any":
        if smoothing:
            targets = tf.one_hot(y, classes)
            result = keras.losses.categorical_crossentropy(targets, probabilities, label_smoothing=smoothing)
        else:
            result = keras.losses.sparse_categorical_crossentropy(y, probabilities)
        return result if weights is None else result * tf.gather(tf.constant(weights, result.dtype), y)

    return losses
