"""The version of Kubeflow Pipelines, which `./run doctor` does not check: it brings its own controllers."""

NAME = "Kubeflow Pipelines"


def controllers() -> tuple[bool, str, str]:
    """Return whether no known hole was found in the controllers, the details and the fix."""
    return True, "not checked", ""
