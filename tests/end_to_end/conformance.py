"""Schemathesis reads this file ($SCHEMATHESIS_HOOKS): the images it may send, of every kind that the API takes."""

import io
from typing import Any

import numpy as np
import schemathesis
from hypothesis import strategies as st
from PIL import Image


def _files(kind: str) -> list[bytes]:
    found = []
    for mode in ("L", "RGB"):
        for size in ((1, 1), (8, 8), (31, 17)):
            pixels = np.random.default_rng(size[0]).integers(0, 256, (*size, len(mode)), dtype=np.uint8)
            buffer = io.BytesIO()
            Image.fromarray(pixels[..., 0] if mode == "L" else pixels).save(buffer, kind)
            found.append(buffer.getvalue())
    return found


for _kind in ("PNG", "JPEG", "WEBP"):
    schemathesis.openapi.media_type(f"image/{_kind.lower()}", st.sampled_from(_files(_kind)))


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict[str, Any]) -> None:
    """Send a list of images where one is described: a strategy of a media type makes one file in its place.

    The case itself is left alone: one that is changed counts as wrong on purpose.
    """
    meant = case.meta is not None and case.meta.generation.mode.is_positive
    if meant and isinstance(case.body, dict) and isinstance(case.body.get("images"), bytes):
        kwargs["files"] = [("images", (name, case.body["images"])) for name in ("one", "two")]
