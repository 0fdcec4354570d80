"""The page's input for a model of images: a picture, uploaded or a sample."""

import base64
import contextlib
import io
from typing import NamedTuple

import streamlit as st
from PIL import Image, ImageOps

from app import decoders, images, inputs
from app.predictions import Model
from app.ui_state import Visit, forget, plain, predict, refuse

TITLE = "Picture"
NOTHING_YET = "Upload a picture, or pick a sample."
PICTURE_PIXELS = 192
# Samples of the first classes are offered as pictures, those of the others by name.
MAX_THUMBNAILS = 20
THUMBNAIL_PIXELS = 64
# Pixels of a letter and of the rest of a button, and of the narrowest and widest one.
LETTER, MARGIN, NARROW, WIDE = 9, 30, 88, 160


class Picture(NamedTuple):
    """A picture on the page; `alt` describes it to those who do not see it."""

    image: Image.Image
    caption: str
    alt: str


def choose(visit: Visit, model: Model) -> None:
    """Let the visitor upload a picture or pick a sample, and show it as the model sees it."""
    # A widget with a new key is empty.
    turn = st.session_state.setdefault("turn", 0)
    upload = f"upload {turn}"
    thumbnails = _thumbnails(model)
    if expected := _expected(model, bool(thumbnails)):
        st.write(expected)
    st.file_uploader(
        "Upload a picture (PNG, JPEG, WebP)",
        type=["png", "jpg", "jpeg", "webp"],
        key=upload,
        on_change=_answer_upload,
        args=(visit, model, upload),
    )
    _offer_samples(visit, model, thumbnails)
    for place, picture in zip(st.columns(2), st.session_state.get("pictures", ()), strict=False):
        place.image(picture.image, caption=picture.caption, alt=picture.alt, output_format="PNG")


def _expected(model: Model, has_samples: bool) -> str:
    """Return the sentences about the pictures that the model takes; none if it takes no pictures."""
    if len(model.input_shape) != 3:
        return ""
    height, width, channels = model.input_shape
    colour = "grey" if channels == 1 else "colour"
    like = ", like the samples below" if has_samples else ""
    return (
        f"The model takes pictures of {width}×{height} pixels in {colour}{like}. Pictures of another size or "
        "colour are converted."
    )


def _thumbnails(model: Model) -> dict[str, Image.Image]:
    """Return small pictures of samples by class name, none for a sample that is no picture."""
    thumbnails = {}
    for name in [name for name in model.classes if name in model.samples][:MAX_THUMBNAILS]:
        row = base64.b64decode(model.samples[name])
        with contextlib.suppress(images.ImageError):
            picture = images.to_picture(row, model.input_shape, model.input_dtype, model.pixels)
            thumbnails[name] = _enlarged(picture, THUMBNAIL_PIXELS)
            thumbnails[name].thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
    return thumbnails


def _offer_samples(visit: Visit, model: Model, thumbnails: dict[str, Image.Image]) -> None:
    """Draw a picture and a button per sample, and a list of those that have no picture."""
    if thumbnails:
        st.markdown("or pick a sample:")
        width = min(max(NARROW, LETTER * max(map(len, thumbnails)) + MARGIN), WIDE)
        with st.container(horizontal=True, gap="small"):
            for name, picture in thumbnails.items():
                with st.container(width=width, gap="xsmall", horizontal_alignment="center"):
                    st.image(picture, alt=f"a sample of {name}", output_format="PNG")
                    st.button(
                        plain(name),
                        key=f"sample {model.version} {name}",
                        on_click=_answer_sample,
                        args=(visit, model, name),
                        width="stretch",
                        wrap=True,
                    )
    others = [name for name in model.classes if name in model.samples and name not in thumbnails]
    if others:
        st.selectbox(
            "or pick a sample of another class" if thumbnails else "or pick a sample of the class",
            others,
            index=None,
            placeholder="choose a class",
            key="sample",
            on_change=_answer_selected,
            args=(visit, model),
        )


def _answer_upload(visit: Visit, model: Model, upload: str) -> None:
    """Predict the uploaded file, or clear the prediction if the visitor removed the file."""
    forget()
    st.session_state.sample = None
    file = st.session_state[upload]
    if file is None:
        return
    content = file.getvalue()
    try:
        row = images.decode(content, model.input_shape, model.input_dtype, model.pixels)
    except images.ImageError as error:
        refuse(error)
        return
    original = _original(content, model)
    _answer(visit, model, row, file.name, original)


def _answer_selected(visit: Visit, model: Model) -> None:
    """Predict the sample of the chosen class, or clear the prediction if none is chosen."""
    if (name := st.session_state.sample) is None:
        forget()
        return
    _answer_sample(visit, model, name)
    st.session_state.sample = name


def _answer_sample(visit: Visit, model: Model, name: str) -> None:
    """Predict the sample of a class."""
    forget()
    st.session_state.turn += 1
    st.session_state.sample = None
    _answer(visit, model, base64.b64decode(model.samples[name]), f"a sample of {name}", None)


def _answer(visit: Visit, model: Model, row: bytes, name: str, original: Image.Image | None) -> None:
    """Predict a row, and store its picture behind the original one, if there is one."""
    try:
        seen = images.to_picture(row, model.input_shape, model.input_dtype, model.pixels)
    except images.ImageError as error:
        refuse(error)
        return
    pictures = [Picture(_enlarged(seen, PICTURE_PIXELS), *_texts(name, "as the model sees it"))]
    if original is not None:
        pictures.insert(0, Picture(original, *_texts(name, "as uploaded")))
    st.session_state.pictures = pictures
    st.session_state.unlike = inputs.unlike(model, row)
    predict(visit, row)


def _texts(name: str, how: str) -> tuple[str, str]:
    """Return a picture's caption and the same without Markdown."""
    return f"{plain(name)}, {how}", f"{name}, {how}"


def _original(content: bytes, model: Model) -> Image.Image | None:
    """Return a small copy of an uploaded picture, upright and on white; None if it has the model's size."""
    height, width, _ = model.input_shape
    with decoders.any_decoder(), Image.open(io.BytesIO(content), formats=images.FORMATS) as image:
        if image.size == (width, height):
            return None
        # A JPEG is decoded in a smaller size at once.
        image.draft(None, (2 * PICTURE_PIXELS, 2 * PICTURE_PIXELS))
        image.thumbnail((PICTURE_PIXELS, PICTURE_PIXELS))
        picture = ImageOps.exif_transpose(image).convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    return _enlarged(Image.alpha_composite(white, picture).convert("RGB"), PICTURE_PIXELS)


def _enlarged(picture: Image.Image, pixels: int) -> Image.Image:
    """Return a small picture enlarged by a whole number."""
    factor = max(1, pixels // max(picture.size))
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
