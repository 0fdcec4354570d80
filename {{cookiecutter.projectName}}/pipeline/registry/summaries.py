"""Short texts about a version, for the pages of MLflow's registry."""

from pipeline.records import ColumnEncoding, Encoding

# MLflow allows 100,000 characters in a tag, but its page shows them all.
LONGEST_SUMMARY = 2000


def encoding_summary(encoding: Encoding) -> str:
    """Return the label and the columns of a table's encoding, in the order of the model's inputs."""
    columns = ", ".join(_column(column) for column in encoding["columns"])
    text = f"{encoding['label']} from {columns}"
    return text if len(text) <= LONGEST_SUMMARY else text[: LONGEST_SUMMARY - 1] + "…"


def _column(column: ColumnEncoding) -> str:
    nulls = ", may be NULL" if column["nulls"] else ""
    if column["kind"] == "text":
        return f"{column['name']} (text, {len(column['vocabulary'])} words{nulls})"
    return f"{column['name']} ({column['kind']}{nulls})"
