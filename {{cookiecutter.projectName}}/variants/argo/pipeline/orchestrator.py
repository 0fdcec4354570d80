"""The version of Argo Workflows on the cluster of kubectl's current context."""

import re
import shutil
import subprocess

NAME = "Argo Workflows"
# The first releases of 3 and 4 without CVE-2026-31892, CVE-2026-42296 and CVE-2026-54526, which let a person who may
# create Workflows bypass templateReferencing.
FIXED = ((3, 7, 15), (4, 0, 6))
IMAGES = "--output=jsonpath={.items[*].spec.template.spec.containers[*].image}"
VERSION = re.compile(r"workflow-controller:v?(\d+)\.(\d+)\.(\d+)")
SECONDS = 10


def controllers() -> tuple[bool, str, str]:
    """Return whether no known vulnerability was found in the controllers, the details and the fix.

    Without kubectl, a cluster or the right to list its Deployments, nothing is found.
    """
    text = _images()
    versions = sorted({(int(major), int(minor), int(patch)) for major, minor, patch in VERSION.findall(text)})
    if not versions:
        return True, "not checked, because kubectl finds no workflow-controller with a version", ""
    outdated = [version for version in versions if not _is_fixed(version)]
    fix = f"upgrade to {' or '.join(map(_text, FIXED))}, or later: docs/how-to/orchestrator.md"
    return not outdated, ", ".join(map(_text, outdated or versions)), fix


def _images() -> str:
    """Return the images of all Deployments, empty if kubectl cannot list them."""
    program = shutil.which("kubectl")
    if not program:
        return ""
    command = [program, "get", "deployments", "--all-namespaces", f"--request-timeout={SECONDS}s", IMAGES]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=2 * SECONDS).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _is_fixed(version: tuple[int, int, int]) -> bool:
    """Return whether a release is not older than the first fixed one of its major version."""
    fixed = next((fixed for fixed in FIXED if fixed[0] == version[0]), FIXED[-1])
    return version >= fixed


def _text(version: tuple[int, int, int]) -> str:
    return ".".join(map(str, version))
