"""zizmor looks for weaknesses in the workflows of this repository and of a generated project."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, in_body
from test_ci import WORKFLOW, changed


def zizmor_findings(file: Path) -> str:
    """Return the findings of zizmor about a workflow, without those that need a network."""
    program = Path(sys.executable).parent / "zizmor"
    completed = subprocess.run(
        [program, "--offline", "--persona=pedantic", "--quiet", "--color=never", file],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert completed.returncode in (0, *range(11, 15)), completed.stderr
    return completed.stdout if completed.returncode else ""


@pytest.mark.parametrize("file", [in_body(WORKFLOW), ROOT / WORKFLOW], ids=["project", "repository"])
def test_zizmor_accepts_the_workflow(file: Path) -> None:
    assert zizmor_findings(file) == ""


@pytest.mark.parametrize(
    ("text", "broken", "problem"),
    [
        ("        with:\n          persist-credentials: false\n", "", "artipacked"),
        ("permissions: {}", "permissions: write-all", "excessive-permissions"),
        ("@11bd71901bbe5b1630ceea73d27597364c9af683", "@v4", "unpinned-uses"),
        ("run: make lint", "run: make ${{ github.head_ref }}", "template-injection"),
        ("  # zizmor: ignore[unpinned-images] docs/how-to/ci.md pins it", "", "unpinned-images"),
    ],
)
def test_zizmor_reports_a_weakness(tmp_path: Path, text: str, broken: str, problem: str) -> None:
    folder = tmp_path / ".github" / "workflows"
    folder.mkdir(parents=True)
    assert f"[{problem}]" in zizmor_findings(changed(in_body(WORKFLOW), folder, text, broken))
