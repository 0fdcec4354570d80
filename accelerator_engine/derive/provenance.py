"""The body's .provenance.yaml: the record of a project's template, version and answers."""

from accelerator_engine.derive.tables import BODY, FRONT_DOOR, Plan
from accelerator_engine.options import Option

PROVENANCE = f"{BODY}/.provenance.yaml"
_HEADER = "# Where this project comes from: with the template at this version, enough to generate it again.\n"


def provenance_yaml(tables: Plan) -> str:
    """Return the record with a placeholder per answer."""
    lines = [
        "template: in-database-ml-accelerator",
        f"templateVersion: {tables.version}",
        f"frontDoor: '{{{{ cookiecutter.{FRONT_DOOR} }}}}'",
        "answers:",
        *(f"  {option.name}: {_placeholder(option)}" for option in tables.options),
    ]
    return _HEADER + "\n".join(lines) + "\n"


def _placeholder(option: Option) -> str:
    placeholder = f"{{{{ cookiecutter.{option.name} }}}}"
    # Without quotes YAML reads true and false as booleans.
    return placeholder if option.data_type == "boolean" else f"'{placeholder}'"
