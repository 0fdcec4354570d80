"""The build context of the images: what .dockerignore lets through, compared with what the Dockerfiles copy."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

import pytest
from conftest import BODY, body_files, in_body, in_project
from dockerfiles import NAMES, named

# Images with their own .dockerignore, because not every project has them.
ALONE = ("pgadmin",)


def patterns(image: str = "") -> list[tuple[bool, str]]:
    """Return the lines of .dockerignore, or of the image's own: whether a line excludes, and its pattern."""
    file = in_body(f"deploy/images/{image}.Dockerfile.dockerignore" if image else ".dockerignore")
    lines = file.read_text(encoding="utf-8").splitlines()
    used = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    return [(not line.startswith("!"), line.removeprefix("!")) for line in used]


def is_in_context(name: str, image: str = "") -> bool:
    """Return whether the build context holds a file: the last line that matches it or one of its folders decides."""
    parts = name.split("/")
    is_excluded = False
    for excludes, pattern in patterns(image):
        if any(matches(parts[:length], pattern.split("/")) for length in range(1, len(parts) + 1)):
            is_excluded = excludes
    return not is_excluded


def matches(parts: list[str], pattern: list[str]) -> bool:
    """Return whether a path matches a pattern, in which `**` stands for any number of folders."""
    if not pattern or not parts:
        return not pattern and not parts
    if pattern[0] == "**":
        return any(matches(parts[skipped:], pattern[1:]) for skipped in range(len(parts) + 1))
    return fnmatchcase(parts[0], pattern[0]) and matches(parts[1:], pattern[1:])


def context(image: str = "") -> set[str]:
    """Return the build context of a project with all variants."""
    names = {in_project(str(path.relative_to(BODY))) for path in body_files()}
    return {name for name in names if is_in_context(name, image)}


def copied(images: Sequence[str]) -> list[str]:
    """Return the sources that the Dockerfiles copy from the context."""
    sources = []
    for image in images:
        for copy in named(image, "COPY"):
            if "--from=" not in copy.text:
                sources += [word.rstrip("/") for word in copy.words[:-1]]
    return sources


def is_copied(name: str, source: str) -> bool:
    """Return whether a COPY of the source takes the file."""
    return name == source or fnmatchcase(name, source) or name.startswith(f"{source}/")


def test_the_context_holds_the_files_that_images_copy() -> None:
    """It holds all of them and, except for lock files, no other: no history, no state, no secrets, no tests."""
    sources = copied([image for image in NAMES if image not in ALONE])
    assert "requirements/ui.tx[t]" in sources
    names = context()
    for source in sources:
        assert any(is_copied(name, source) for name in names)
    needless = {name for name in names if not any(is_copied(name, source) for source in sources)}
    # No image copies the first four, and the image that copies pgadmin.txt has a separate context.
    exceptions = {f"requirements/{role}.txt" for role in ("audit", "datahub", "kubeflow", "lock", "pgadmin")}
    assert needless == {"requirements/overrides.txt", "requirements/training-db.txt", *exceptions}


@pytest.mark.parametrize("image", ALONE)
def test_a_separate_context_holds_only_the_files_that_the_image_copies(image: str) -> None:
    """The folder also holds pgAdmin's own files, its passfile among them."""
    assert context(image) == set(copied([image]))
    assert not is_in_context("pgadmin/data/passfile", image)


@pytest.mark.parametrize(
    "name",
    [
        ".git/config",
        ".local/state.json",
        ".env",
        "app/__pycache__/api.cpython-311.pyc",
        "app/api.pyc",
        "deploy/values.yaml",
        "local/state.py",
        "model.py",
        "app/__pycache__/api.cpython-311.pyc.140234",
        "tests/test_local.py",
    ],
)
def test_no_other_file_is_in_the_context(name: str) -> None:
    """These files may lie in the folder of a project."""
    assert not is_in_context(name)
