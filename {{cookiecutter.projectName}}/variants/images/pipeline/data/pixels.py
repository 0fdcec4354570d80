"""The values of a data set's pixels: measured at upload, kept with each version, and applied to files by the app."""

from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import StepError
from pipeline.records import PixelFormat
from pipeline.settings import declared_range, section
from pipeline.user_code import Dataset, load_dataset

ORDERS = ("RGB", "BGR")
ROWS_AT_ONCE = 256
# Smallest share of a declared range that the data must span. Data from 0 to 1 in a range from 0 to 255 would be served
# as black, because files have 256 levels.
SMALLEST_SHARE = 1 / 8
# Per known range: the values of black and white, and the largest minimum and smallest maximum of its data.
KNOWN_RANGES = ((0, 255, 127, 128), (0, 1, 0.5, 0.5), (-1, 1, -0.5, 0.5))


def load_images() -> Dataset:
    """Return the data set of dataset.py. Raises StepError when its rows are not images that the app can serve."""
    data = load_dataset()
    shape = data.shape
    where = f"dataset.py: load(): features have the shape {data.features.shape}"
    wanted = "images are (rows, height, width, channels) with 1 or 3 channels"
    if len(shape) == 2:
        raise StepError(f"{where}; {wanted}: add the channel with features[..., np.newaxis]")
    if len(shape) == 3 and shape[2] not in (1, 3) and shape[0] in (1, 3):
        raise StepError(f"{where}; {wanted}: move the channels with np.moveaxis(features, 1, -1)")
    if len(shape) != 3 or shape[2] not in (1, 3):
        raise StepError(f"{where}; {wanted}")
    return data


def pixel_format(data: Dataset) -> PixelFormat:
    """Return the values of black and white, measured or as project.yaml declares them.

    Raises StepError when they are neither recognised nor declared, when a value lies outside the declared range,
    or when the data spans less than SMALLEST_SHARE of it.
    """
    low, high = float(data.features.min()), float(data.features.max())
    declared = declared_range()
    if declared and data.features.dtype == np.uint8 and not 0 <= declared[0] < declared[1] <= 255:
        # 256 would become 0: white would be served as black.
        raise StepError(
            f"project.yaml: valueRange is {list(declared)}, but the values of dataset.py are uint8: 0 to 255"
        )
    # float32 holds 0.1 as a larger number.
    if declared and not np.float32(declared[0]) <= low <= high <= np.float32(declared[1]):
        raise StepError(
            f"project.yaml: valueRange is {list(declared)}, but the values of dataset.py lie from {low:g} to {high:g}; "
            "give the values of black and white"
        )
    if declared and high - low < SMALLEST_SHARE * (declared[1] - declared[0]):
        raise StepError(
            f"project.yaml: valueRange is {list(declared)}, but the values of dataset.py span only "
            f"{low:g} to {high:g}, less than an eighth of it; give the values of black and white of this data"
        )
    minimum, maximum = declared or _recognised(low, high)
    return PixelFormat(minimum=minimum, maximum=maximum, whole=_is_whole(data.features), channels=_order(data.shape))


def _recognised(low: float, high: float) -> tuple[float, float]:
    """Return the values of black and white of data from `low` to `high`. Raises StepError when they are unclear."""
    for minimum, maximum, most, least in KNOWN_RANGES:
        if minimum <= low <= most and least <= high <= maximum:
            return minimum, maximum
    raise StepError(
        f"dataset.py: load(): the values lie from {low:g} to {high:g}, which is none of 0 to 255, 0 to 1 and -1 to 1; "
        "declare the values of black and white in project.yaml, for example "
        f"`valueRange: [{np.floor(low):g}, {np.ceil(high):g}]`"
    )


def _is_whole(features: npt.NDArray[Any]) -> bool:
    """Return whether all values are whole numbers."""
    if features.dtype == np.uint8:
        return True
    # A copy of all rows may not fit into memory, and most data is known after a few rows.
    chunks = (features[start : start + ROWS_AT_ONCE] for start in range(0, len(features), ROWS_AT_ONCE))
    return all(bool((chunk == np.floor(chunk)).all()) for chunk in chunks)


def _order(shape: tuple[int, ...]) -> str:
    """Return `channelOrder` of project.yaml, RGB when it is absent. Raises StepError."""
    order = section("channelOrder")
    if order is None:
        return "RGB"
    if order not in ORDERS or shape[-1] != 3:
        raise StepError(
            f"project.yaml: channelOrder is {order!r}; allowed is {' or '.join(ORDERS)}, for images with 3 channels"
        )
    return str(order)
