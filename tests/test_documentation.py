"""The pages of this repository and of a project: links that lead somewhere, one kind per page, a site of its own."""

import html.parser
import itertools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml
from conftest import BODY, FOLDER, ROOT, in_project, overlays
from tools import doors

KINDS = ("tutorial", "how-to", "reference", "explanation")
LONGEST_LINE_OF_A_DIAGRAM = 100
# Tags that make a browser load something, by the attribute with the address.
LOADED = dict.fromkeys(("audio", "iframe", "img", "script", "source", "video"), "src") | {"link": "href"}
ANSWERS: list[dict[str, Any]] = [
    {"includeNotebook": True, "includePgadmin": True, "includeDatahub": True, "ci": "github"},
    {"dataset": "table", "orchestrator": "kubeflow", "includeUi": False},
]


def repository_pages() -> list[Path]:
    """Return the pages of this repository that are not the body's."""
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def body_pages() -> list[Path]:
    """Return the pages of the body, those of its variants too."""
    documents = (folder / "docs" for folder in (BODY, *overlays("docs")))
    return sorted([*BODY.glob("*.md"), *itertools.chain.from_iterable(folder.rglob("*.md") for folder in documents)])


def pages_of_sites() -> list[Path]:
    """Return the pages of both sites, of this repository's and of a project's."""
    return [page for page in [*repository_pages(), *body_pages()] if "docs" in page.relative_to(ROOT).parts]


def divided(page: Path) -> tuple[str, list[tuple[str, list[str]]]]:
    """Return a page's text, and its blocks of code: language and lines."""
    text: list[str] = []
    blocks: list[tuple[str, list[str]]] = []
    inside = False
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.lstrip().startswith("```"):
            inside = not inside
            if inside:
                blocks.append((line.strip("` "), []))
        elif inside:
            blocks[-1][1].append(line)
        else:
            text.append(line)
    return "\n".join(text), blocks


def links(page: Path) -> list[tuple[str, str]]:
    """Return file and anchor of each relative link of a page."""
    text = re.sub(r"`[^`\n]+`", "", divided(page)[0])
    addresses = re.findall(r"\]\((?![a-z]+:)([^)\s]*)\)", text)
    return [(address.partition("#")[0], address.partition("#")[2]) for address in addresses]


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and mkdocs make them."""
    headings = re.findall(r"^#+ (.+)$", divided(page)[0], re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def body_targets(page: Path, file: str) -> list[Path]:
    """Return the files of the body that a link of a page may lead to in a project."""
    place = Path(in_project(str(page.relative_to(BODY)))).parent
    path = (Path("/") / place / file).resolve().relative_to("/") if file else place / page.name
    # A variant's page leads to the page of its own variant.
    variant = Path(str(page).removesuffix(str(place / page.name)))
    folders = [variant] if (variant / path).exists() else [BODY, *overlays(str(path))]
    return [folder / path for folder in folders if (folder / path).exists()]


@pytest.mark.parametrize("page", repository_pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_the_repository_lead_to_files(page: Path) -> None:
    """None goes through the link `template`, which a web page of the repository does not follow."""
    for file, anchor in links(page):
        path = page.parent / unquote(file) if file else page
        assert not file.startswith("template/"), file
        assert path.exists() or file.startswith(("../../compare", "../../tree")), file
        assert not anchor or anchor in anchors(path), f"{file}#{anchor}"


@pytest.mark.parametrize("page", body_pages(), ids=lambda page: str(page.relative_to(BODY)))
def test_links_of_a_project_lead_to_files(page: Path) -> None:
    """In every project: where variants have the page, each has the anchor."""
    for file, anchor in links(page):
        targets = body_targets(page, file)
        assert targets, file
        assert not anchor or all(anchor in anchors(target) for target in targets), f"{file}#{anchor}"


@pytest.mark.parametrize("page", pages_of_sites(), ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_has_one_kind_and_an_opening(page: Path) -> None:
    """The folder is the kind; below the title stands text, not another heading, a table or code."""
    assert page.name == "index.md" or page.parent.name in KINDS
    lines = divided(page)[0].split("# ", 1)[1]
    opening = lines.splitlines()[2]
    assert re.match(r"[A-Z]", opening), opening


@pytest.mark.parametrize("page", [*repository_pages(), *body_pages()], ids=lambda page: str(page.relative_to(ROOT)))
def test_a_diagram_fits_a_screen(page: Path) -> None:
    for language, lines in divided(page)[1]:
        assert language not in ("", "text") or max(map(len, lines)) <= LONGEST_LINE_OF_A_DIAGRAM


def test_files_that_name_a_page_of_a_project_name_one_that_is_there() -> None:
    """Comments and messages, too."""
    listed = subprocess.run(
        ["git", "grep", "--untracked", "-hoE", r"\bdocs/[a-z/-]+\.md", "--", FOLDER],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    assert listed
    missing = [path for path in set(listed) if not (BODY / path).exists() and not overlays(path)]
    assert not missing


# The sites


class Loads(html.parser.HTMLParser):
    """Collects the addresses that a browser loads for a page."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.classes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what the tag loads."""
        attributes = dict(attrs)
        self.classes |= set((attributes.get("class") or "").split())
        address = attributes.get(LOADED.get(tag, ""))
        if address and attributes.get("rel") != "canonical":
            self.addresses.append(address)


def build(configuration: Path, site: Path) -> None:
    """Build a site; every warning is an error."""
    program = Path(sys.executable).with_name("mkdocs")
    process = subprocess.run(
        [program, "build", "--strict", "--config-file", configuration, "--site-dir", site],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stdout + process.stderr


def foreign(site: Path) -> Iterator[str]:
    """Yield the references that a browser would load from another host."""
    for page in site.rglob("*.html"):
        loads = Loads()
        loads.feed(page.read_text(encoding="utf-8"))
        # Diagrams of Mermaid are drawn by a script from another host.
        assert "mermaid" not in loads.classes, page
        yield from (f"{page}: {address}" for address in loads.addresses if re.match(r"(?:https?:)?//", address))
    for sheet in site.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        yield from (
            f"{sheet}: {reference}" for reference in re.findall(r"(?:url\(|@import )[\"']?(?:https?:)?//[^)]*", text)
        )


def test_the_site_is_whole_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    build(ROOT / "mkdocs.yml", tmp_path / "site")
    pages = {str(page.relative_to(ROOT / "docs").with_suffix(".html")) for page in (ROOT / "docs").rglob("*.md")}
    built = {str(page.relative_to(tmp_path / "site")) for page in (tmp_path / "site").rglob("*.html")}
    assert built == pages | {"404.html"}
    assert list(foreign(tmp_path / "site")) == []


def test_the_navigation_has_every_page() -> None:
    navigation = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    sections = [section for section in navigation if isinstance(section, dict)]
    listed = itertools.chain.from_iterable(pages for section in sections for pages in section.values())
    pages = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}
    assert {*listed, "index.md"} == pages
    assert [name.lower() for section in sections for name in section] == list(KINDS)


@pytest.mark.parametrize("address", ["https://elsewhere.example/a.js", "//elsewhere.example/a.js"])
def test_a_script_from_elsewhere_is_noticed(tmp_path: Path, address: str) -> None:
    (tmp_path / "page.html").write_text(f'<a href="https://example.com">x</a><script src="{address}"></script>')
    assert list(foreign(tmp_path)) == [f"{tmp_path / 'page.html'}: {address}"]


@pytest.mark.slow
@pytest.mark.parametrize("answers", ANSWERS, ids=["images", "table"])
def test_a_projects_site_is_whole(tmp_path: Path, answers: dict[str, Any]) -> None:
    """TechDocs has a plugin of its own; links and anchors are mkdocs's."""
    project = doors.accelerator(ROOT, answers, tmp_path / "output").folder
    assert project is not None
    settings = yaml.safe_load((project / "mkdocs.yml").read_text(encoding="utf-8"))
    settings |= {"plugins": [], "theme": {"name": "material", "font": False}, "use_directory_urls": False}
    settings["validation"] = {"links": {"anchors": "warn", "absolute_links": "warn", "unrecognized_links": "warn"}}
    (project / "mkdocs.yml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    build(project / "mkdocs.yml", tmp_path / "site")
    assert {page.parent.name for page in (tmp_path / "site").glob("*/*.html")} == set(KINDS)
