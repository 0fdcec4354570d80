"""Conversion of image files to the rows that a model takes, and of rows to pictures."""

import contextlib
import io
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from app.clients import Busy, ClientGone
from app.decoders import MAX_SMALL_PIXELS, any_decoder
from app.records import PixelFormat

# Parts of a row whose means are compared with the training rows; the inference database has the same number.
MOST_PARTS = 8
# Few enough rows to stay in the processor's cache.
ROWS_IN_CACHE = 256
FORMATS = ("PNG", "JPEG", "WEBP")
MODES = ("1", "L", "LA", "P", "RGB", "RGBA")
MAX_BYTES = 10 * 2**20
MAX_PIXELS = 25_000_000
ORIENTATION = 0x0112
Decoder = Callable[[], contextlib.AbstractContextManager[None]]
DTYPES: dict[str, np.dtype[np.uint8 | np.float32]] = {"uint8": np.dtype("u1"), "float32": np.dtype("<f4")}
# The values of a file, and of the training rows of a version without a pixel format.
BYTES = PixelFormat(minimum=0, maximum=255, whole=True, channels="RGB")

# Set once for all threads. `_require_allowed` refuses larger pictures itself, so Pillow's warning is redundant.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class ImageError(ValueError):
    """The file is refused; the text is one sentence."""


class TooLarge(ImageError):
    """The file has more than MAX_BYTES bytes."""


class UnknownFormat(ImageError):
    """The file is no image of an allowed format."""


def decode(
    content: bytes,
    shape: Sequence[int],
    dtype: str,
    pixels: PixelFormat | None = None,
    decoder: Decoder = any_decoder,
) -> bytes:
    """Return an image file as the bytes of one row.

    Applies the EXIF orientation, fits the image into the model's height and width, and converts to grey or RGB by the
    model's channels. Transparent parts are laid on white. The values are scaled to those of the training rows. An
    image of the model's size keeps its pixels.

    Args:
        content: a PNG, JPEG or WebP file.
        shape: height, width and 1 or 3 channels.
        dtype: uint8, or float32 (little-endian).
        pixels: the values of the training rows; None for 0 to 255.
        decoder: holds a decoder while a large picture is decoded.

    Raises:
        ImageError: the file is refused, or the shape is not that of an image.
        Busy, ClientGone: `decoder` raises them.
    """
    height, width, channels = _require_image_model(shape)
    if not content:
        raise ImageError("the file is empty")
    if len(content) > MAX_BYTES:
        raise TooLarge(f"the file has {len(content):,} bytes; allowed are {MAX_BYTES:,}")
    picture = _decoded(content, (width, height), "L" if channels == 1 else "RGB", decoder)
    return _scaled(np.asarray(picture), dtype, pixels or BYTES).tobytes()


def _decoded(content: bytes, size: tuple[int, int], mode: str, decoder: Decoder) -> Image.Image:
    """Return the picture in a file, fitted and converted. Raises ImageError, and what `decoder` raises."""
    try:
        with _open(content) as image:
            _require_allowed(image, content)
            is_large = image.width * image.height > MAX_SMALL_PIXELS
            with decoder() if is_large else contextlib.nullcontext():
                return _fitted(image, size, mode)
    except (ImageError, Busy, ClientGone):
        raise
    except Image.DecompressionBombError as error:
        raise ImageError(f"the image has too many pixels; allowed are {MAX_PIXELS:,}") from error
    except Exception as error:
        # Pillow's decoders raise any kind of exception for a broken file.
        raise ImageError("the image cannot be decoded: the file is damaged or cut off") from error


def to_picture(row: bytes, shape: Sequence[int], dtype: str, pixels: PixelFormat | None = None) -> Image.Image:
    """Return the picture that a row holds: the inverse of `decode`, rounded to 256 levels.

    Raises ImageError if the row or the shape is not that of an image.
    """
    height, width, channels = _require_image_model(shape)
    size = height * width * channels * DTYPES[dtype].itemsize
    if len(row) != size:
        raise ImageError(f"the row has {len(row)} bytes; {_times(shape)} {dtype} are {size}")
    values = np.frombuffer(row, DTYPES[dtype]).reshape((height, width) if channels == 1 else (height, width, 3))
    return Image.fromarray(_levels(values, pixels or BYTES))


def _scaled(levels: npt.NDArray[np.uint8], dtype: str, pixels: PixelFormat) -> npt.NDArray[np.uint8 | np.float32]:
    """Return the levels of a file, 0 to 255, as values of the training rows."""
    if pixels["channels"] == "BGR":
        levels = levels[..., ::-1]
    if (pixels["minimum"], pixels["maximum"]) == (0, 255):
        return levels.astype(DTYPES[dtype])
    values = levels / 255 * (pixels["maximum"] - pixels["minimum"]) + pixels["minimum"]
    return (np.rint(values) if pixels["whole"] else values).astype(DTYPES[dtype])


def _levels(values: npt.NDArray[np.uint8 | np.float32], pixels: PixelFormat) -> npt.NDArray[np.uint8]:
    """Return values of the training rows as the levels of a file, 0 to 255."""
    if pixels["channels"] == "BGR":
        values = values[..., ::-1]
    share = (np.nan_to_num(values.astype("f8")) - pixels["minimum"]) / (pixels["maximum"] - pixels["minimum"])
    levels: npt.NDArray[np.uint8] = np.rint(np.clip(share, 0, 1) * 255).astype("u1")
    return levels


def row_statistics(features: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return (n, 2 + parts) float32: per row the mean, the standard deviation and the means of up to MOST_PARTS parts.

    The function row_statistics of the inference database computes the same of every row that it answers.
    """
    flat = np.ascontiguousarray(features).reshape(len(features), -1)
    parts = min(MOST_PARTS, flat.shape[1])
    starts = np.arange(parts) * flat.shape[1] // parts
    widths = np.diff([*starts, flat.shape[1]])
    statistics = np.empty((len(flat), 2 + parts), np.float32)
    for start in range(0, len(flat), ROWS_IN_CACHE):
        chunk = slice(start, start + ROWS_IN_CACHE)
        rows = flat[chunk].astype(np.float64)
        statistics[chunk, 0] = rows.mean(axis=1)
        statistics[chunk, 1] = rows.std(axis=1)
        statistics[chunk, 2:] = np.add.reduceat(rows, starts, axis=1) / widths
    return statistics


def statistic_names(count: int) -> list[str]:
    """Return the names of `count` statistics of a row."""
    return ["mean", "standard_deviation", *(f"part_{number}" for number in range(1, count - 1))]


def _require_image_model(shape: Sequence[int]) -> tuple[int, int, int]:
    if len(shape) != 3 or shape[2] not in (1, 3) or min(shape) < 1:
        raise ImageError(
            f"the model takes rows of shape {_times(shape)}, not images (height × width × 1 or 3 channels)"
        )
    height, width, channels = shape
    return height, width, channels


def _times(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape)) or "()"


def _open(content: bytes) -> Image.Image:
    """Read the header, without decoding any pixels."""
    try:
        return Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise UnknownFormat("the file is no PNG, JPEG or WebP image") from error


def _require_allowed(image: Image.Image, content: bytes) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageError(f"the image has {width}×{height} pixels; allowed are {MAX_PIXELS:,} in all")
    # A JPEG of several pictures (MPO) holds a photo and its previews; the photo comes first.
    if image.format in ("PNG", "WEBP") and getattr(image, "n_frames", 1) > 1:
        raise ImageError("the image is animated; one still picture is allowed")
    # Pillow reduces these files to 8 bits, and their mode does not show it.
    if image.format == "PNG" and _png_depth(content) == 16:
        raise ImageError("the image has 16 bits per channel; allowed are up to 8")
    if image.mode not in MODES:
        raise ImageError(f"the image's colours are {image.mode}; allowed are grey, palette and RGB of up to 8 bits")


def _png_depth(content: bytes) -> int:
    """Return the bits per channel. Raises ValueError if the header is not the first chunk."""
    if content[12:16] != b"IHDR":
        raise ValueError("the first chunk is not the header")
    return content[24]


def _fitted(image: Image.Image, size: tuple[int, int], mode: str) -> Image.Image:
    """Return the image upright, resized, in the given mode and on white."""
    if image.getexif().get(ORIENTATION, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        image = _resized(_in_mode(image, "RGBA"), size)
        return Image.alpha_composite(Image.new("RGBA", size, "white"), image).convert(mode)
    # Resizing averages colours, which needs RGB or grey: palette indices cannot be averaged.
    image = _in_mode(image, "L" if image.mode in ("1", "L") else "RGB")
    return _resized(image, size).convert(mode)


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    """Return the image in a mode, without the copy that `convert` makes of an image in that mode."""
    return image if image.mode == mode else image.convert(mode)


def _resized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Return the image fitted into the size, with its own proportions, on the median colour of its edge."""
    scale = min(size[0] / image.width, size[1] / image.height)
    inner = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    picture = image
    if image.size != inner:
        # Box averages restore the original pixels of an image that was enlarged by a whole number.
        picture = image.resize(inner, Image.Resampling.BOX if scale <= 1 else Image.Resampling.BILINEAR)
    if inner == size:
        return picture
    canvas = Image.new(picture.mode, size, _edge_colour(picture))
    canvas.paste(picture, ((size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2))
    return canvas


def _edge_colour(image: Image.Image) -> tuple[int, ...]:
    """Return the median per channel of the pixels on the image's edge."""
    pixels = np.asarray(image).reshape(image.height, image.width, -1)
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    return tuple(int(level) for level in np.median(edge, axis=0))
