"""Records with fixed keys that the training database stores: epochs, scores, encodings and statistics."""

from typing import Literal, NotRequired, TypedDict


class EpochRow(TypedDict):
    """Metrics of one committed epoch; the losses are means over rows."""

    epoch: int
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float


class MeanScores(TypedDict):
    """Loss and accuracy, each a mean over rows."""

    loss: float
    accuracy: float


class Scores(MeanScores):
    """Scores of a split, as the aggregate `evaluate` returns them; a row of the confusion matrix is a true class."""

    rows: int
    f1: float
    confusion_matrix: list[list[int]]


class NumberEncoding(TypedDict):
    """A column of numbers or booleans: the model gets (value - mean) / deviation, and 0 for NULL."""

    name: str
    type: str
    kind: Literal["number", "boolean"]
    mean: float
    deviation: float
    nulls: bool


class TextEncoding(TypedDict):
    """A column of texts: the model gets one number per word of the vocabulary, 1 for the row's own word."""

    name: str
    type: str
    kind: Literal["text"]
    nulls: bool
    vocabulary: list[str]


ColumnEncoding = NumberEncoding | TextEncoding


class Encoding(TypedDict):
    """The encoding of a row of the source table as numbers: its columns in the order of the model's inputs."""

    label: str
    key: list[str]
    columns: list[ColumnEncoding]


class Extremes(TypedDict, total=False):
    """The smallest and the largest value of a number in the training rows."""

    minimum: float
    maximum: float


class InputStatistics(Extremes):
    """The edges of a statistic's tenths, and the rows per bin: a value is in the bin of the edges not above it.

    Numbers have their extremes as well.
    """

    statistic: str
    edges: list[float]
    counts: list[int]


class PixelFormat(TypedDict):
    """The values of an image's pixels: those of black and of white, and whether all are whole numbers.

    `channels` is the order of three channels, RGB or BGR.
    """

    minimum: float
    maximum: float
    whole: bool
    channels: str


class TrainingStatistics(TypedDict):
    """Statistics of the training split, which later rows are compared with; only images have means and pixels."""

    rows: int
    class_counts: list[int]
    mean: NotRequired[float]
    standard_deviation: NotRequired[float]
    inputs: list[InputStatistics]
    pixels: NotRequired[PixelFormat]
