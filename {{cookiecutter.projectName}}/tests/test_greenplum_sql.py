"""Statements for the training database avoid what Greenplum's planner refuses, or some members of its family."""

import ast
import re
from collections.abc import Iterator

import pytest

from pipeline.settings import ROOT

CHANGELOG = sorted((ROOT / "database" / "training").glob("*.sql"))
# Modules with statements for the inference database alone, which is PostgreSQL.
INFERENCE = ("aliases.py", "deploy_inference_db.py", "monitor_model.py", "demo.py", "inference_log.py")
VOLATILE = r"clock_timestamp\(\)|random\(\)|gen_random_uuid\(\)|timeofday\(\)|nextval\("


def statements() -> Iterator[tuple[str, str]]:
    """Yield the file and the text of each statement: change sets, and the strings of the pipeline with SQL in them."""
    for path in CHANGELOG:
        for change in path.read_text(encoding="utf-8").split("--changeset"):
            yield path.name, re.sub(r"\$python\$.*?\$python\$", "", change, flags=re.DOTALL)
    for path in sorted((ROOT / "pipeline").rglob("*.py")):
        if path.name in INFERENCE:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield path.name, node.value


def replicated_tables() -> list[str]:
    """Return the tables of which every segment has a copy."""
    texts = "".join(path.read_text(encoding="utf-8") for path in CHANGELOG)
    return re.findall(
        r'CREATE TABLE "\$\{schema\}"\.(\w+) \((?:(?!CREATE TABLE).)*?\) \$\{replicated\}', texts, re.DOTALL
    )


def test_every_table_names_its_distribution() -> None:
    texts = "".join(path.read_text(encoding="utf-8") for path in CHANGELOG)
    created = re.findall(r'CREATE TABLE "\$\{schema\}"\.(\w+)', texts)
    distributed = re.findall(r"^\) \$\{(?:replicated|distributed_by_\w+)\};", texts, re.MULTILINE)
    assert len(created) == len(distributed)
    assert {"dataset", "model_architecture", "registered_version"} <= set(replicated_tables())


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        (r"EXECUTE\s+ON\s+(COORDINATOR|MASTER)", "the word differs between versions: a SELECT without FROM runs there"),
        (r"hash_array_extended\([^)]*::text\[\]", "early releases of PostgreSQL 12 pass no collation"),
        (r"\bFOR\s+(NO\s+KEY\s+)?UPDATE\b", "it locks the whole table"),
        (r"\bCREATE\s+INDEX\s+CONCURRENTLY\b|\bMERGE\s+INTO\b", "PostgreSQL 12 has none"),
        (r"\bSET\s+(LOCAL\s+)?gp_\w+\s*(=|TO\b)", "a setting may be missing: see prepare_session"),
    ],
)
def test_no_statement_has_what_some_greenplum_refuses(pattern: str, reason: str) -> None:
    wrong = [(name, text[:80]) for name, text in statements() if re.search(pattern, text, re.IGNORECASE)]
    assert not wrong, reason


def test_no_replicated_table_is_updated_with_a_volatile_function() -> None:
    """Greenplum fails with `could not devise a plan`: each copy would get another value."""
    tables = "|".join(replicated_tables())
    pattern = rf"UPDATE\s+\S*\.({tables})\s+SET\b[^;]*({VOLATILE})"
    assert re.search(pattern, "UPDATE {schema}.dataset SET selected_at = clock_timestamp() WHERE true")
    wrong = [(name, text[:80]) for name, text in statements() if re.search(pattern, text, re.IGNORECASE)]
    assert not wrong
