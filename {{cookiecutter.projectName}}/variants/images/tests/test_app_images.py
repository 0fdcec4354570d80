"""Image files become exactly the rows that a model takes, or are refused with a sentence."""

import concurrent.futures
import io
import struct
import threading
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from app import images

pytestmark = pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
GREY, RGB = (8, 8, 1), (8, 8, 3)
PIXELS = np.random.default_rng(1).integers(0, 256, (8, 8, 3), dtype=np.uint8)


def file(picture: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def decoded(content: bytes, shape=RGB, dtype="uint8") -> np.ndarray:
    return np.frombuffer(images.decode(content, shape, dtype), images.DTYPES[dtype]).reshape(shape)


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_header(width: int, height: int) -> bytes:
    """Return a PNG whose header claims this size: a few bytes that would decode to gigabytes."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind, options", [("PNG", {}), ("WEBP", {"lossless": True})])
def test_an_image_of_the_models_size_keeps_its_pixels(kind, options) -> None:
    content = file(Image.fromarray(PIXELS), kind, **options)
    assert (decoded(content) == PIXELS).all()
    assert (decoded(content, dtype="float32") == PIXELS.astype("<f4")).all()


def test_grey_keeps_its_pixels_and_becomes_rgb_where_the_model_wants_it() -> None:
    content = file(Image.fromarray(PIXELS[..., 0]))
    assert (decoded(content, GREY)[..., 0] == PIXELS[..., 0]).all()
    assert (decoded(content) == PIXELS[..., :1]).all()


def test_rgb_becomes_grey_where_the_model_wants_it() -> None:
    grey = decoded(file(Image.fromarray(PIXELS)), GREY)[..., 0]
    assert np.abs(grey - PIXELS @ [0.299, 0.587, 0.114]).max() < 1


@pytest.mark.parametrize("mode", ["1", "P"])
def test_palettes_and_black_and_white_keep_their_colours(mode) -> None:
    picture = Image.fromarray(PIXELS // 86 * 86).convert(mode)
    assert (decoded(file(picture)) == np.asarray(picture.convert("RGB"))).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_becomes_white(mode) -> None:
    if mode == "P":
        picture, options = Image.new("P", (8, 8), 0), {"transparency": 0}
        picture.putpalette([9, 9, 9, 0, 0, 0])
    else:
        picture, options = Image.new(mode, (8, 8), 0), {}
    picture.paste(1 if mode == "P" else {"RGBA": (1, 2, 3, 255), "LA": (1, 255)}[mode], (0, 0, 4, 8))
    row = decoded(file(picture, **options))
    assert (row[:, 4:] == 255).all()
    assert (row[:, :4] == {"P": (0, 0, 0), "RGBA": (1, 2, 3), "LA": (1, 1, 1)}[mode]).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_as_its_exif_data_says(orientation) -> None:
    turned = {
        1: PIXELS, 2: PIXELS[:, ::-1], 3: PIXELS[::-1, ::-1], 4: PIXELS[::-1], 5: PIXELS.transpose(1, 0, 2),
        6: np.rot90(PIXELS, -1), 7: np.rot90(PIXELS.transpose(1, 0, 2), 2), 8: np.rot90(PIXELS),
    }  # fmt: skip
    row = decoded(file(Image.fromarray(PIXELS), exif=exif(orientation)))
    assert (row == turned[orientation]).all()


def test_an_image_of_another_size_is_resized() -> None:
    large = np.kron(PIXELS[..., 0], np.ones((5, 5), np.uint8))
    assert (decoded(file(Image.fromarray(large)), GREY)[..., 0] == PIXELS[..., 0]).all()
    for size in ((3, 5), (3, 50), (500, 9)):
        assert (decoded(file(Image.new("RGB", size, (10, 20, 30)))) == (10, 20, 30)).all()


@pytest.mark.parametrize(
    ("size", "inner"), [((16, 8), (slice(2, 6), slice(0, 8))), ((4, 8), (slice(0, 8), slice(2, 6)))]
)
def test_an_image_of_other_proportions_is_fitted(size, inner) -> None:
    """The colour of the image's edge fills the rest."""
    picture = Image.new("RGB", size, (200, 100, 50))
    picture.paste((0, 0, 0), (size[0] // 4, size[1] // 4, size[0] // 2, size[1] // 2))
    row = decoded(file(picture))
    outside = np.ones((8, 8), bool)
    outside[inner] = False
    assert (row[outside] == (200, 100, 50)).all()
    assert np.array_equal(
        row[inner], np.asarray(picture.resize((row[inner].shape[1], row[inner].shape[0]), Image.Resampling.BOX))
    )


def test_a_photo_with_a_preview_is_its_first_picture() -> None:
    photo, preview = Image.new("RGB", (8, 8), "white"), Image.new("RGB", (8, 8), "black")
    content = file(photo, "MPO", save_all=True, append_images=[preview])
    assert decoded(content).min() > 250


def noisy(size=(64, 64)) -> Image.Image:
    return Image.effect_noise(size, 90).convert("RGB")


REFUSED = {
    "empty": (b"", "the file is empty"),
    "text": (b"seven", "no PNG, JPEG or WebP image"),
    "HTML": (b"<!DOCTYPE html><html><body><img src=x></body></html>", "no PNG, JPEG or WebP image"),
    "SVG": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "no PNG, JPEG or WebP image"),
    "GIF": (file(noisy(), "GIF"), "no PNG, JPEG or WebP image"),
    "TIFF": (file(noisy(), "TIFF"), "no PNG, JPEG or WebP image"),
    "BMP": (file(noisy(), "BMP"), "no PNG, JPEG or WebP image"),
    "cut PNG": (file(noisy())[:2000], "damaged or cut off"),
    "cut JPEG": (file(noisy(), "JPEG")[:1000], "damaged or cut off"),
    "cut WebP": (file(noisy(), "WEBP")[:300], "damaged or cut off|no PNG"),
    "huge dimensions": (png_header(100_000, 100_000), "too many pixels"),
    "just too many pixels": (png_header(5001, 5000), "5001×5000 pixels"),
    "CMYK": (file(Image.new("CMYK", (8, 8)), "JPEG"), "colours are CMYK"),
    "16-bit grey": (file(Image.fromarray(np.full((8, 8), 999, np.uint16))), "16 bits"),
    "animated PNG": (file(noisy(), save_all=True, append_images=[noisy()]), "animated"),
    "animated WebP": (file(noisy(), "WEBP", save_all=True, append_images=[noisy()]), "animated"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_hostile_file_is_refused_with_a_sentence(name) -> None:
    content, message = REFUSED[name]
    with pytest.raises(images.ImageError, match=message):
        images.decode(content, GREY, "uint8")


def test_16_bit_rgb_is_refused() -> None:
    header = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
    rows = zlib.compress((b"\0" + bytes(8 * 6)) * 8)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    assert Image.open(io.BytesIO(content)).mode == "RGB"
    with pytest.raises(images.ImageError, match="16 bits"):
        images.decode(content, RGB, "uint8")


def test_a_file_of_too_many_bytes_is_refused_unread() -> None:
    with pytest.raises(images.TooLarge, match="10,485,760"):
        images.decode(bytes(images.MAX_BYTES + 1), RGB, "uint8")


@pytest.mark.parametrize("shape", [(13,), (8, 8), (8, 8, 2), (4, 8, 8, 1), ()])
def test_a_model_of_something_else_is_said(shape) -> None:
    with pytest.raises(images.ImageError, match="not images"):
        images.decode(file(noisy()), shape, "uint8")
    with pytest.raises(images.ImageError, match="not images"):
        images.to_picture(b"", shape, "uint8")


@pytest.mark.parametrize("shape", [GREY, RGB, (4, 2, 3)])
@pytest.mark.parametrize("dtype", images.DTYPES)
def test_a_row_becomes_the_picture_it_was(shape, dtype) -> None:
    row = np.random.default_rng(2).integers(0, 256, shape).astype(images.DTYPES[dtype]).tobytes()
    assert images.decode(file(images.to_picture(row, shape, dtype)), shape, dtype) == row


def test_a_row_of_the_wrong_length_is_no_picture() -> None:
    with pytest.raises(images.ImageError, match="the row has 63 bytes; 8×8×1 uint8 are 64"):
        images.to_picture(bytes(63), GREY, "uint8")


def test_threads_do_not_disturb_each_other() -> None:
    contents = [file(Image.fromarray(np.roll(PIXELS, shift)).resize((400, 300))) for shift in range(20)]
    alone = [images.decode(content, RGB, "uint8") for content in contents]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda content: images.decode(content, RGB, "uint8"), contents * 3))
    assert together == alone * 3


def test_few_are_decoded_at_once(monkeypatch) -> None:
    """Decoding one large file takes hundreds of megabytes, so the number of cores must not matter."""
    decoding, most, lock, fitted = 0, 0, threading.Lock(), images._fitted

    def counted(*arguments):
        nonlocal decoding, most
        with lock:
            decoding += 1
            most = max(most, decoding)
        time.sleep(0.02)
        with lock:
            decoding -= 1
        return fitted(*arguments)

    monkeypatch.setattr(images, "_fitted", counted)
    monkeypatch.setattr(images, "MAX_SMALL_PIXELS", 1)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda content: images.decode(content, RGB, "uint8"), [file(Image.fromarray(PIXELS))] * 16))
    assert most == 2
