"""The API under hostile input: requests generated from its description, and hostile files."""

import os
import struct
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from .api import Api, file, png, sentence, serving, with_keys
from .project import Project

pytestmark = pytest.mark.security

HERE = Path(__file__).parent
REQUESTS = 2000
# The schema does not list the model's labels, so a well-formed label may be refused.
SETTINGS = """
[[operations]]
include-path = "/predictions/{prediction_id}/label"
checks.positive_data_acceptance.expected-statuses = [200, 404, 422]

[auth.openapi.bearer]
bearer = "{key}"
"""
FILES = 500
Random = np.random.Generator


@pytest.fixture(scope="module")
def api(trained: Project, work: Path) -> Iterator[Api]:
    """The default project's API, which must survive every test here; it asks for a key."""
    variables, keys = with_keys(trained, work / "abused", tester="predict,label")
    with serving(trained, work / "abused.log", REQUESTS_PER_MINUTE="0", **variables) as served:
        served.session.headers["Authorization"] = f"Bearer {keys['tester']}"
        yield served
        assert served.is_alive()
        assert served.predict(png(np.zeros((8, 8), np.uint8))).status_code == 200
        assert not [line for line in served.lines() if line["level"] in ("ERROR", "CRITICAL")]


def test_it_does_what_its_description_says(
    api: Api, work: Path, record_property: Callable[[str, object], None]
) -> None:
    """Send at least 2000 generated requests, because rare inputs break an API."""
    before = len(api.requests())
    # Ignore the settings of the person who runs the test.
    settings = work / "schemathesis.toml"
    key = str(api.session.headers["Authorization"]).removeprefix("Bearer ")
    settings.write_text(SETTINGS.replace("{key}", key), encoding="utf-8")
    command = [Path(sys.executable).with_name("schemathesis"), "--config-file", settings, "run"]
    command += [f"{api.address}/openapi.json", "--checks", "all", "--seed", "1", "--max-examples", "250"]
    command += ["--workers", "2", "--generation-database", "none", "--suppress-health-check", "all", "--no-color"]
    variables = {**os.environ, "SCHEMATHESIS_HOOKS": "tests.end_to_end.conformance", "PYTHONPATH": str(HERE.parents[1])}
    variables["NO_PROXY"] = "127.0.0.1"
    process = subprocess.run(
        [*map(str, command), "--continue-on-failure"],
        cwd=work, env=variables, capture_output=True, text=True, check=False, timeout=1500,
    )  # fmt: skip
    assert process.returncode == 0, process.stdout[-8000:] + process.stderr[-2000:]
    answered = Counter(line["status"] for line in api.requests()[before:])
    record_property("answers", dict(sorted(answered.items())))
    assert answered.total() >= REQUESTS
    assert max(answered) < 500
    # Some requests were accepted.
    assert answered[200] > 100


def chunk(kind: bytes, data: bytes) -> bytes:
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def raw_png(width: int, height: int, data: bytes, depth: int = 8, colours: int = 2) -> bytes:
    """Return a PNG whose header claims a size, with any data."""
    header = struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data, 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + content


def picture(random: Random, mode: str = "RGB") -> Image.Image:
    """Return noise with sides of 8 to 60 pixels."""
    height, width = random.integers(8, 60, 2)
    pixels = random.integers(0, 256, (height, width, len(mode)), dtype=np.uint8)
    return Image.fromarray(pixels[..., 0] if len(mode) == 1 else pixels, mode if mode == "CMYK" else None)


def truncated(random: Random) -> bytes:
    """Return up to nine tenths of a file."""
    content = file(picture(random), ["PNG", "JPEG", "WEBP"][random.integers(3)])
    return content[: int(len(content) * random.uniform(0.01, 0.9))]


def bomb(random: Random) -> bytes:
    """Return a few bytes that decode to tens of millions of pixels."""
    side = int(random.integers(5100, 9000))
    return raw_png(side, side, bytes(side * (side // 8 + 2)), 1, 0)


def huge(random: Random) -> bytes:
    """Return a file that claims more pixels than fit into memory."""
    width, height = random.integers(20_000, 2**31 - 1, 2)
    return raw_png(int(width), int(height), b"")


def long_and_thin(random: Random) -> bytes:
    """Return a long image with one short side."""
    return raw_png(int(random.integers(30_000_000, 2**31 - 1)), 1, b"")


def other_format(random: Random) -> bytes:
    """Return an image in a format that the API refuses."""
    return file(picture(random), ["GIF", "BMP", "TIFF", "PPM", "ICO", "TGA", "PDF"][random.integers(7)])


def wrong_start(random: Random) -> bytes:
    """Return the first bytes of an image, followed by random ones."""
    starts = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0\0\x10JFIF\0", b"RIFF\xff\xff\xff\x7fWEBPVP8 ")
    return starts[random.integers(3)] + random.bytes(int(random.integers(0, 5000)))


def animated(random: Random) -> bytes:
    """Return an image of several frames."""
    first = picture(random)
    others = [Image.fromarray(255 - np.asarray(first)), first.rotate(90)][: random.integers(1, 3)]
    return file(first, ["PNG", "WEBP"][random.integers(2)], save_all=True, append_images=others)


def cmyk(random: Random) -> bytes:
    """Return an image in CMYK."""
    return file(picture(random, "CMYK"), "JPEG")


def sixteen_bits(random: Random) -> bytes:
    """Return an image of 16 bits per channel: grey, RGB, RGBA, grey with alpha."""
    channels = {0: 1, 2: 3, 6: 4, 4: 2}
    colours = int(random.choice(list(channels)))
    side = int(random.integers(1, 30))
    return raw_png(side, side, (b"\0" + random.bytes(side * channels[colours] * 2)) * side, 16, colours)


def empty(random: Random) -> bytes:
    """Return no bytes, or only white space."""
    return b"" if random.integers(2) else b" \n\0"[random.integers(3)].to_bytes(1, "big") * int(random.integers(1, 99))


def html(random: Random) -> bytes:
    """Return an HTML page or an SVG image with a script."""
    text = (
        "<!DOCTYPE html><html><img src=x onerror=alert({})></html>",
        '<svg xmlns="http://www.w3.org/2000/svg" id="{}"/>',
    )
    return text[random.integers(2)].format(random.integers(10**9)).encode()


def text(random: Random) -> bytes:
    """Return text in UTF-8, UTF-16 or another encoding."""
    return "".join(map(chr, random.integers(32, 0xD7FF, 200))).encode(["utf-8", "utf-16"][random.integers(2)])


def text_bomb(random: Random) -> bytes:
    """Return a valid image with a comment that decompresses to hundreds of megabytes."""
    content = file(picture(random))
    comment = chunk(b"zTXt", b"c\0\0" + zlib.compress(bytes(int(random.integers(2, 30)) * 2**20), 9))
    return content[:33] + comment + content[33:]


def damaged(random: Random) -> bytes:
    """Return a PNG with damaged pixel data."""
    content = bytearray(file(picture(random)))
    start = content.index(b"IDAT") + 4
    content[start : start + 20] = random.bytes(20)
    return bytes(content)


KINDS = (
    truncated, bomb, huge, long_and_thin, other_format, wrong_start, animated, cmyk, sixteen_bits, empty, html, text,
    text_bomb, damaged,
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_hostile_file_is_refused_with_a_sentence(api: Api, kind: Callable[[Random], bytes]) -> None:
    """Under any file name and media type, because the API trusts neither."""
    random = np.random.default_rng(KINDS.index(kind))
    names = ("image.png", "../../etc/passwd", "a" * 300, 'x";\r\ny', "ü.webp")
    types = ("image/png", "image/webp", "text/html", "application/octet-stream", "no type at all")
    accepted = []
    for number in range(-(-FILES // len(KINDS))):
        content = kind(random)
        answer = api.predict(content, names[number % 5], types[number // 5 % 5])
        if answer.status_code == 200:
            accepted.append((number, len(content)))
            continue
        sentence(answer)
    assert not accepted
    assert api.is_alive()
