"""The template's version in a project's record of where it comes from."""

import re

from accelerator_engine.derive.tables import BODY, Plan

PROVENANCE = f"{BODY}/.provenance.yaml"
_VERSION = re.compile(r"^templateVersion: .*$", re.MULTILINE)


def provenance_yaml(text: str, tables: Plan) -> str:
    """Return the body's .provenance.yaml with the template's version; the rest stays as it is."""
    return _VERSION.sub(f"templateVersion: {tables.version}", text)
