"""What the changelogs must hold to, checked without a database."""

import pathlib
import re

import pytest
import yaml

DATABASE = pathlib.Path(__file__).parent.parent / "database"
FILES = sorted(DATABASE.rglob("*.sql"))
CHANGESET = re.compile(r"^--changeset (\S+)(.*)$", re.MULTILINE)


def changesets(path: pathlib.Path) -> list[tuple[str, str, str]]:
    """Return (name, attributes, text) of each changeset of a file."""
    text = path.read_text(encoding="utf-8")
    headers = list(CHANGESET.finditer(text))
    ends = [match.start() for match in headers[1:]] + [len(text)]
    return [(match[1], match[2], text[match.end() : end]) for match, end in zip(headers, ends)]


ALL = [
    pytest.param(attributes, text, id=f"{path.parent.name}-{name}")
    for path in FILES
    for name, attributes, text in changesets(path)
]


def rendered(text: str, database: str) -> str:
    """Return SQL as a project on this training database deploys it."""
    changelog = yaml.safe_load((DATABASE / "training" / "changelog.yaml").read_text(encoding="utf-8"))
    for entry in changelog["databaseChangeLog"]:
        declared = entry.get("property")
        if declared and declared["context"] == database:
            text = text.replace("${" + declared["name"] + "}", declared["value"])
    return text


def test_every_file_is_included() -> None:
    """In the order of the numbers in their names."""
    for folder in ("training", "inference"):
        changelog = yaml.safe_load((DATABASE / folder / "changelog.yaml").read_text(encoding="utf-8"))
        (included,) = [entry["includeAll"] for entry in changelog["databaseChangeLog"] if "includeAll" in entry]
        assert included == {"path": ".", "relativeToChangelogFile": True, "endsWithFilter": ".sql"}
        numbers = [int(path.name[:3]) for path in FILES if path.parent.name == folder]
        assert len(set(numbers)) == len(numbers)


@pytest.mark.parametrize(("attributes", "text"), ALL)
def test_every_changeset_has_a_rollback(attributes: str, text: str) -> None:
    assert "--rollback " in text or "liquibase rollback" in text


@pytest.mark.parametrize(("attributes", "text"), ALL)
def test_no_comment_is_taken_for_an_instruction(attributes: str, text: str) -> None:
    """Liquibase obeys a comment that starts with one of these words, whatever follows."""
    words = "rollback|comment|changeset|preconditions?|precondition-sql-check|valid-?checksum|ignore|property"
    for line in re.findall(rf"^--\s*(?:{words})\b.*$", text, re.MULTILINE | re.IGNORECASE):
        assert line.startswith("--rollback ")


@pytest.mark.parametrize(("attributes", "text"), ALL)
def test_bodies_are_neither_split_nor_stripped(attributes: str, text: str) -> None:
    if "$$" in text or "$python$" in text:
        assert "splitStatements:false stripComments:false" in attributes


@pytest.mark.parametrize(("attributes", "text"), ALL)
def test_python_runs_nothing_that_it_is_given(attributes: str, text: str) -> None:
    for body in re.findall(r"\$python\$(.*?)\$python\$", text, re.DOTALL):
        assert not re.search(r"\b(pickle|dill|marshal|eval|exec|__import__|importlib|subprocess|urllib)\b", body)
        assert not re.search(r"os\.(system|popen|fork|exec)", body)
        compile("def body():\n" + re.sub(r"^", "    ", body, flags=re.MULTILINE), "body", "exec")


def test_aggregates_ask_the_database_nothing() -> None:
    """A notice asks nothing: it reaches the client while the statement runs."""
    for name in ("004-fit-and-evaluate.sql", "007-given-weights.sql"):
        text = (DATABASE / "training" / name).read_text(encoding="utf-8")
        bodies = re.findall(r"\$python\$(.*?)\$python\$", text, re.DOTALL)
        assert bodies
        assert all("plpy" not in body.replace("plpy.notice(", "") for body in bodies)


def test_greenplum_keys_contain_the_distribution_key() -> None:
    tables = 0
    for path in FILES:
        if path.parent.name != "training":
            continue
        for _, _, raw in changesets(path):
            if "CREATE TABLE" not in raw:
                continue
            tables += 1
            text = rendered(raw, "greenplum")
            clause = re.search(r"\)\s*DISTRIBUTED (REPLICATED|BY \((.*?)\))\s*;", text)
            assert clause, f"{path.name}: a table without DISTRIBUTED"
            assert "DISTRIBUTED" not in rendered(raw, "postgresql")
            if clause[1] == "REPLICATED":
                continue
            distribution = {column.strip() for column in clause[2].split(",")}
            keys = re.findall(r"(?:PRIMARY KEY|UNIQUE) \((.*?)\)", text)
            keys += re.findall(r"^\s*(\w+) .*PRIMARY KEY", text, re.MULTILINE)
            assert keys
            for key in keys:
                assert distribution <= {column.strip() for column in key.split(",")}
    assert tables >= 6


def test_nothing_that_greenplum_lacks_is_used() -> None:
    for path in FILES:
        if path.parent.name == "training":
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"FOR UPDATE|SKIP LOCKED|\bMERGE\b|CONCURRENTLY|gen_random_uuid|currval", text)
