"""Parts of rendered manifests: workflow templates, pods and rights; and values that a test sets."""

import itertools
from typing import Any

from tools.manifests import Manifest, of_kind


def workflow_template(text: str) -> Manifest:
    """Return the one WorkflowTemplate."""
    (template,) = of_kind(text, "WorkflowTemplate")
    return template


def templates(text: str) -> dict[str, Manifest]:
    """Return the templates of the WorkflowTemplate by name."""
    return {template["name"]: template for template in workflow_template(text)["spec"]["templates"]}


def pods(text: str) -> dict[str, Manifest]:
    """Return the templates that run a container of the project's image."""
    return {name: template for name, template in templates(text).items() if "container" in template}


def rules(text: str, account: str) -> set[tuple[str, str, str]]:
    """Return the rights of an account as API group, resource and verb."""
    (role,) = [
        manifest for manifest in of_kind(text, "Role") if manifest["metadata"]["name"] == f"image-classifier-{account}"
    ]
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group, resource, verb in itertools.product(rule["apiGroups"], rule["resources"], rule["verbs"])
    }


def value(path: str, setting: Any) -> dict[str, Any]:
    """Return values in which only the value at this path is set."""
    first, _, rest = path.partition(".")
    return {first: value(rest, setting) if rest else setting}
