"""Pictures unlike all training rows are marked as such."""

import dataclasses

import numpy as np
from stand_in import MODEL, StandIn, png, serving

from app import images, inputs
from app.records import InputStatistics
from pipeline.data import mini_batches
from pipeline.user_code import load_dataset


def known(name: str, low: float, high: float) -> InputStatistics:
    return InputStatistics(statistic=name, minimum=low, maximum=high)


DARK = dataclasses.replace(MODEL, inputs=(known("mean", 0, 100), known("standard_deviation", 0, 90)))


def test_the_answer_names_what_is_unlike_the_training_rows() -> None:
    with serving(StandIn(DARK)) as client:
        answers = [
            client.post("/predictions", files={"image": ("a.png", png(*pixels))}).json()["unlike_training"]
            for pixels in [(20, 40, 60, 80), (109, 109, 109, 109), (250, 250, 250, 250), (0, 255, 0, 255)]
        ]
    assert answers == [
        [],
        [],
        ["mean 250 (training rows: 0 to 100)"],
        ["mean 128 (training rows: 0 to 100)", "standard deviation 128 (training rows: 0 to 90)"],
    ]


def test_an_older_version_marks_nothing() -> None:
    with serving(StandIn(MODEL)) as client:
        answer = client.post("/predictions", files={"image": ("a.png", png(255, 255, 255, 255))}).json()
    assert answer["unlike_training"] == []


def test_no_training_row_is_unlike_the_training_rows() -> None:
    """The statistics of an upload are those that the app computes."""
    data = load_dataset()
    packed = mini_batches.pack(data, 1, 512)
    model = dataclasses.replace(
        MODEL,
        input_shape=data.shape,
        input_dtype=str(data.features.dtype),
        inputs=tuple(mini_batches.training_statistics(packed)["inputs"]),
    )
    rows = packed.rows["train"][:50]
    assert [inputs.unlike(model, data.features[row].tobytes()) for row in rows] == [[]] * len(rows)
    white = np.full(data.shape, 255, data.features.dtype).tobytes()
    assert any("mean" in phrase for phrase in inputs.unlike(model, white))


def test_statistics_have_names() -> None:
    assert images.statistic_names(4) == ["mean", "standard_deviation", "part_1", "part_2"]
