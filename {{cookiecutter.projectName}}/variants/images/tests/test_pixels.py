"""The values of black and white are recognised or declared, and files become exactly these values."""

import io

import numpy as np
import pytest
import yaml

import app.records
from app import images
from pipeline import records, settings
from pipeline.data import mini_batches, pixels
from pipeline.errors import StepError
from pipeline.user_code import Dataset

LABELS = np.zeros(4, "<i4")


def data(low: float, high: float, dtype: str = "float32", channels: int = 3) -> Dataset:
    """Return four random images whose values lie from `low` to `high`, both ends included."""
    values = np.random.default_rng(1).uniform(low, high, (4, 6, 5, channels))
    values[0, 0, 0], values[1, 0, 0] = low, high
    return Dataset((np.rint(values) if dtype == "uint8" else values).astype(dtype), LABELS, ["a", "b"])


@pytest.fixture
def declare(monkeypatch):
    """A function that puts a key into project.yaml."""
    answers: dict[str, object] = {}
    for module in (pixels, settings):
        monkeypatch.setattr(module, "section", answers.get)
    return answers.__setitem__


@pytest.mark.parametrize(
    ("low", "high", "dtype", "expected"),
    [
        (0, 255, "uint8", (0, 255)),
        (3, 200, "uint8", (0, 255)),
        (0, 1, "uint8", (0, 1)),
        (0, 255, "float32", (0, 255)),
        (0, 1, "float32", (0, 1)),
        (0.02, 0.9, "float32", (0, 1)),
        (-1, 1, "float32", (-1, 1)),
        (-0.98, 0.8, "float32", (-1, 1)),
    ],
)
def test_a_common_range_is_recognised(low, high, dtype, expected) -> None:
    measured = pixels.pixel_format(data(low, high, dtype))
    assert (measured["minimum"], measured["maximum"]) == expected
    assert measured["whole"] == (dtype == "uint8")


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [(0, 16, "uint8"), (0, 100, "float32"), (-2.1, 2.6, "float32"), (-0.1, 0.2, "float32"), (0, 4096, "float32")],
)
def test_another_range_must_be_declared(declare, low, high, dtype) -> None:
    """The sentence gives the line of project.yaml, and that line is accepted."""
    with pytest.raises(StepError, match=r"declare the values of black and white in project\.yaml") as refused:
        pixels.pixel_format(data(low, high, dtype))
    line = str(refused.value).split("`")[1]
    assert line == f"valueRange: [{np.floor(low):g}, {np.ceil(high):g}]"
    declare("valueRange", [float(np.floor(low)), float(np.ceil(high))])
    assert pixels.pixel_format(data(low, high, dtype))["maximum"] == np.ceil(high)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("valueRange", [0, 0.5], "but the values of dataset.py lie from 0 to 1"),
        ("valueRange", [0, 255], "but the values of dataset.py span only 0 to 1, less than an eighth of it"),
        ("valueRange", 255, "valueRange is 255; use the values of black and white"),
        ("valueRange", [1, 0], "valueRange is [1, 0]"),
        ("valueRange", [0, "1"], "valueRange is [0, '1']"),
        ("valueRange", [0, True], "valueRange is [0, True]"),
        ("channelOrder", "GBR", "channelOrder is 'GBR'; allowed is RGB or BGR"),
    ],
)
def test_a_wrong_declaration_is_refused(declare, key, value, message) -> None:
    declare(key, value)
    with pytest.raises(StepError) as refused:
        pixels.pixel_format(data(0, 1))
    assert message in str(refused.value)


def test_one_value_that_is_not_whole_is_found() -> None:
    features = np.zeros((600, 2, 2, 1), "f4")
    features[0] = 255
    several = Dataset(features, np.zeros(600, "<i4"), ["a", "b"])
    assert pixels.pixel_format(several)["whole"]
    features[-1, 1, 1] = 0.5
    assert not pixels.pixel_format(several)["whole"]


@pytest.mark.parametrize("limits", [[-0.1, 0.1], [-2.1179, 2.64]])
def test_the_declared_values_may_be_those_of_the_data(declare, limits) -> None:
    """float32 holds a number a little larger or smaller than the one in project.yaml."""
    declare("valueRange", limits)
    assert pixels.pixel_format(data(*limits))["maximum"] == limits[1]


@pytest.mark.parametrize("limits", [[0, 256], [-1, 255]])
def test_a_range_that_bytes_cannot_hold_is_refused(declare, limits) -> None:
    declare("valueRange", limits)
    with pytest.raises(StepError, match=r"the values of dataset\.py are uint8: 0 to 255"):
        pixels.pixel_format(data(0, 255, "uint8"))


def test_the_order_of_one_channel_is_refused(declare) -> None:
    declare("channelOrder", "BGR")
    with pytest.raises(StepError, match="for images with 3 channels"):
        pixels.pixel_format(data(0, 1, channels=1))


@pytest.mark.parametrize(
    ("shape", "remedy"),
    [
        ((4, 6, 5), r"add the channel with features\[..., np.newaxis\]"),
        ((4, 3, 6, 5), r"move the channels with np.moveaxis\(features, 1, -1\)"),
        ((4, 6, 5, 2), "with 1 or 3 channels$"),
        ((4, 30), "with 1 or 3 channels$"),
    ],
)
def test_rows_that_are_no_images_are_refused(monkeypatch, shape, remedy) -> None:
    features = np.zeros(shape, "uint8")
    monkeypatch.setattr(pixels, "load_dataset", lambda: Dataset(features, LABELS, ["a", "b"]))
    with pytest.raises(StepError, match=remedy):
        pixels.load_images()


FORMATS = [
    pixels.PixelFormat(minimum=0, maximum=255, whole=True, channels="RGB"),
    pixels.PixelFormat(minimum=0, maximum=1, whole=False, channels="RGB"),
    pixels.PixelFormat(minimum=-1, maximum=1, whole=False, channels="BGR"),
    pixels.PixelFormat(minimum=0, maximum=16, whole=True, channels="RGB"),
    pixels.PixelFormat(minimum=-2.5, maximum=3, whole=False, channels="BGR"),
]


@pytest.mark.parametrize(
    ("known", "dtype"),
    [*((known, "float32") for known in FORMATS), *((known, "uint8") for known in FORMATS if known["whole"])],
)
def test_a_file_becomes_the_row_that_it_was(known, dtype) -> None:
    levels = np.random.default_rng(2).integers(0, 256, (6, 5, 3))
    if known["whole"]:
        levels = np.rint(np.rint(levels / 255 * known["maximum"]) / known["maximum"] * 255)
    ordered = levels[..., ::-1] if known["channels"] == "BGR" else levels
    row = ordered / 255 * (known["maximum"] - known["minimum"]) + known["minimum"]
    row = (np.rint(row) if known["whole"] else row).astype(images.DTYPES[dtype])
    picture = images.to_picture(row.tobytes(), row.shape, dtype, known)
    assert np.array_equal(np.asarray(picture), levels)
    file = io.BytesIO()
    picture.save(file, "PNG")
    assert images.decode(file.getvalue(), row.shape, dtype, known) == row.tobytes()


def test_values_that_people_divide_by_255_come_back_exactly() -> None:
    levels = np.arange(256, dtype="uint8").reshape(16, 16, 1)
    row = levels.astype("float32") / 255
    file = io.BytesIO()
    images.to_picture(row.tobytes(), row.shape, "float32", FORMATS[1]).save(file, "PNG")
    assert images.decode(file.getvalue(), row.shape, "float32", FORMATS[1]) == row.tobytes()


def test_the_format_is_part_of_the_data_set() -> None:
    """The same rows with another white are another data set; the usual format leaves the hash as it was."""
    some = Dataset(
        np.random.default_rng(3).integers(0, 256, (300, 2, 2, 1), dtype="uint8"), np.arange(300) % 2, ["a", "b"]
    )
    usual = mini_batches.pack(some, 1, 64)
    assert usual.data_hash == mini_batches.pack(some, 1, 64, {**images.BYTES, "whole": False}).data_hash
    assert usual.data_hash != mini_batches.pack(some, 1, 64, {**images.BYTES, "maximum": 300}).data_hash
    assert mini_batches.training_statistics(usual)["pixels"] == images.BYTES


def test_the_app_and_the_pipeline_mean_the_same_format() -> None:
    """The walls between the rooms keep two definitions of it."""
    assert records.PixelFormat.__annotations__ == app.records.PixelFormat.__annotations__


@pytest.mark.parametrize("line", ["valueRange: [0, 255]", "channelOrder: RGB"])
def test_the_declarations_are_known_keys(line) -> None:
    key, value = yaml.safe_load(line).popitem()
    settings._check_answers({**settings.read_yaml("project.yaml"), key: value})
