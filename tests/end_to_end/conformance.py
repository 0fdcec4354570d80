"""Hooks of Schemathesis ($SCHEMATHESIS_HOOKS): the images that it sends, in every format of the API."""

import io
from typing import Any

import numpy as np
import schemathesis
from hypothesis import strategies as st
from PIL import Image


def _files(kind: str) -> list[bytes]:
    files = []
    for mode in ("L", "RGB"):
        for size in ((1, 1), (8, 8), (31, 17)):
            pixels = np.random.default_rng(size[0]).integers(0, 256, (*size, len(mode)), dtype=np.uint8)
            buffer = io.BytesIO()
            Image.fromarray(pixels[..., 0] if mode == "L" else pixels).save(buffer, kind)
            files.append(buffer.getvalue())
    return files


for _kind in ("PNG", "JPEG", "WEBP"):
    schemathesis.openapi.media_type(f"image/{_kind.lower()}", st.sampled_from(_files(_kind)))


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict[str, Any]) -> None:
    """Send two images where the schema describes a list: the strategy of a media type generates one file.

    The case itself stays unchanged, because Schemathesis counts a changed case as deliberately wrong.
    """
    is_valid = case.meta is not None and case.meta.generation.mode.is_positive
    if is_valid and isinstance(case.body, dict) and isinstance(case.body.get("images"), bytes):
        kwargs["files"] = [("images", (name, case.body["images"])) for name in ("first", "second")]
