"""The records that the inference database returns as JSON or as rows of its views."""

import datetime
from typing import NotRequired, TypedDict


class Metrics(TypedDict, total=False):
    """Metrics of a version on held-out rows."""

    accuracy_score: float
    f1_score: float
    loss: float
    rows: int
    # Row counts, true × predicted class.
    confusion_matrix: list[list[int]]


class EncodedColumn(TypedDict):
    """A feature column of a table, and its statistics over the training rows."""

    name: str
    # PostgreSQL's name of the type, and one of number, boolean and text.
    type: str
    kind: str
    nulls: bool
    # Of numbers and booleans.
    mean: NotRequired[float]
    deviation: NotRequired[float]
    # Of texts: the known values.
    vocabulary: NotRequired[list[str]]


class Encoding(TypedDict):
    """How rows of a table become the model's numbers."""

    label: str
    columns: list[EncodedColumn]


class InputStatistics(TypedDict):
    """A statistic of the training rows; numbers have the smallest and the largest value."""

    statistic: str
    minimum: NotRequired[float]
    maximum: NotRequired[float]


class PixelFormat(TypedDict):
    """The values of a model's pixels: those of black and of white, and whether all are whole numbers."""

    minimum: float
    maximum: float
    whole: bool
    # RGB or BGR: the order of three channels.
    channels: str


class RecordedLabel(TypedDict):
    """A recorded label, as the function record_label returns it."""

    prediction_id: str
    label: str
    predicted_label: str
    model: str
    version: int


class AccuracyRow(TypedDict):
    """A row of the view accuracy_window: the accuracy over the latest labels, per label."""

    version: int
    labelled_at: datetime.datetime
    labelled: int
    accuracy: float


class DriftRow(TypedDict):
    """A row of the view drift: the population stability index of a statistic."""

    statistic: str
    predictions: int
    psi: float
