"""The page's input for pictures: the expected size, samples as pictures, and an upload beside the model's view."""

import base64
import io
from typing import Any

import pytest
from page_environment import call
from PIL import Image


def see(*actions: tuple[str, Any], shape=(2, 2, 1), classes=("cat", "dog"), samples=None) -> list[dict[str, Any]]:
    """Return the content of the page at first and after each action."""
    size = shape[0] * shape[1] * shape[2]
    if samples is None:
        samples = {name: base64.b64encode(bytes([place]) * size).decode() for place, name in enumerate(classes)}
    argument = {"shape": shape, "classes": classes, "samples": samples, "actions": actions}
    return call("page_visit", argument)


def png(width: int, height: int, mode: str = "L") -> str:
    buffer = io.BytesIO()
    Image.new(mode, (width, height)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [
        ((8, 9, 1), "The model takes pictures of 9×8 pixels in grey, like the samples below."),
        ((32, 32, 3), "The model takes pictures of 32×32 pixels in colour, like the samples below."),
    ],
)
def test_the_expected_pictures_are_described(shape, sentence) -> None:
    (first,) = see(shape=shape)
    assert first["texts"][0].startswith(sentence)
    assert first["alts"] == ["a sample of cat", "a sample of dog"]


def test_a_model_without_samples() -> None:
    (first,) = see(samples={})
    assert first["texts"][0].startswith("The model takes pictures of 2×2 pixels in grey. ")
    assert not first["buttons"] and not first["options"]


def test_a_sample_is_predicted_by_its_button() -> None:
    _, cat, dog = see(("press", "cat"), ("press", "dog"))
    assert [base64.b64decode(row) for row in dog["rows"]] == [bytes(4), bytes([1]) * 4]
    assert cat["shown"] == [
        [[192, 192], "a sample of cat, as the model sees it", "a sample of cat, as the model sees it"]
    ]
    assert dog["shown"][0][2] == "a sample of dog, as the model sees it"


def test_of_many_classes_the_first_are_pictures_and_the_others_a_list() -> None:
    classes = [f"class {number}" for number in range(25)]
    first, picked, pressed = see(("pick", "class 22"), ("press", "class 3"), classes=classes)
    assert first["buttons"] == classes[:20]
    assert first["options"] == [classes[20:]]
    assert picked["shown"][0][2] == "a sample of class 22, as the model sees it"
    assert pressed["shown"][0][2] == "a sample of class 3, as the model sees it"
    assert (picked["chosen"], pressed["chosen"]) == (["class 22"], [None])
    assert [base64.b64decode(row)[0] for row in pressed["rows"]] == [22, 3]


def test_an_upload_is_shown_beside_the_models_view() -> None:
    """The original is on the left, with its aspect ratio."""
    _, wide, small = see(("upload", png(40, 10, "RGBA")), ("upload", png(2, 2)))
    names = ["a_*name*.png, as uploaded", "a_*name*.png, as the model sees it"]
    assert [picture[2] for picture in wide["shown"]] == names
    assert [picture[0] for picture in wide["shown"]] == [[160, 40], [192, 192]]
    assert wide["shown"][0][1] == "a\\_\\*name\\*.png, as uploaded"
    assert wide["alts"][-2:] == names
    # The model sees a picture of its own size unchanged.
    assert [picture[2] for picture in small["shown"]] == names[1:]


def test_a_refused_upload_shows_no_picture() -> None:
    _, refused = see(("upload", base64.b64encode(b"text").decode()))
    assert refused["refused"] == "The file is no PNG, JPEG or WebP image."
    assert not refused["shown"] and not refused["rows"]


def test_a_model_of_something_else_than_pictures_is_no_error() -> None:
    (first,) = see(shape=(2, 2, 2))
    assert not first["buttons"]
    assert first["options"] == [["cat", "dog"]]
