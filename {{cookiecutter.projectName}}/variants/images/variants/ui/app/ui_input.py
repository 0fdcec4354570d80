"""The page's input for a model of images: a picture, uploaded or a sample."""

import base64

import streamlit as st
from PIL import Image

from app import images
from app.predictions import Model, Predictions
from app.ui_state import forget, plain, predict, refuse

TITLE = "Picture"
NOTHING_YET = "Upload a picture, or pick a sample."
PICTURE_PIXELS = 192


def choose(predictions: Predictions, model: Model) -> None:
    """Let the visitor upload a picture or pick a sample, and show it as the model sees it."""
    # A widget with a new key is empty.
    turn = st.session_state.setdefault("turn", 0)
    upload = f"upload {turn}"
    st.file_uploader(
        "Upload a picture (PNG, JPEG, WebP)",
        type=["png", "jpg", "jpeg", "webp"],
        key=upload,
        on_change=_answer_upload,
        args=(predictions, model, upload),
    )
    if model.samples:
        names = [name for name in model.classes if name in model.samples]
        st.selectbox(
            "or pick a sample of the class",
            names,
            index=None,
            placeholder="choose a class",
            key="sample",
            on_change=_answer_sample,
            args=(predictions, model),
        )
    if picture := st.session_state.get("picture"):
        st.image(picture, caption=st.session_state.source, output_format="PNG")


def _answer_upload(predictions: Predictions, model: Model, upload: str) -> None:
    """Predict the uploaded file, or clear the prediction if the visitor removed the file."""
    forget()
    st.session_state.sample = None
    file = st.session_state[upload]
    if file is None:
        return
    try:
        row = images.decode(file.getvalue(), model.input_shape, model.input_dtype, model.pixels)
    except images.ImageError as error:
        refuse(error)
        return
    _answer(predictions, model, row, f"{plain(file.name)}, as the model sees it")


def _answer_sample(predictions: Predictions, model: Model) -> None:
    """Predict the chosen sample."""
    forget()
    st.session_state.turn += 1
    name = st.session_state.sample
    if name is not None:
        row = base64.b64decode(model.samples[name])
        _answer(predictions, model, row, f"a sample of {plain(name)}, as the model sees it")


def _answer(predictions: Predictions, model: Model, row: bytes, source: str) -> None:
    """Predict a row, and store its picture."""
    try:
        st.session_state.picture = _enlarged(images.to_picture(row, model.input_shape, model.input_dtype, model.pixels))
    except images.ImageError as error:
        refuse(error)
        return
    st.session_state.source = source
    predict(predictions, row)


def _enlarged(picture: Image.Image) -> Image.Image:
    """Return a small picture enlarged by a whole number."""
    factor = max(1, PICTURE_PIXELS // max(picture.size))
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
