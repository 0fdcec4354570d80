"""Continuous integration of a project: the workflows of GitHub and GitLab, and the script that publishes images."""

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, in_body
from tools import actionlint, doors, schemas

WORKFLOW = ".github/workflows/checks.yml"
PIPELINE = ".gitlab-ci.yml"
SCRIPT = "deploy/publish-image.sh"
OF_CI = {WORKFLOW, PIPELINE, SCRIPT, "docs/how-to/ci.md"}
pytestmark = pytest.mark.slow


def files(place: Path, **answers: object) -> set[str]:
    """Return a project's files for continuous integration."""
    folder = doors.accelerator(ROOT, answers, place).folder
    assert folder is not None
    return OF_CI & {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize(
    ("ci", "expected"),
    [("none", set()), ("github", OF_CI - {PIPELINE}), ("gitlab", OF_CI - {WORKFLOW})],
)
def test_a_project_has_only_the_files_of_its_answer(tmp_path: Path, ci: str, expected: set[str]) -> None:
    assert files(tmp_path, ci=ci) == expected


# The files


def actionlint_findings(file: Path) -> str:
    """Return the findings of actionlint about a workflow, and of shellcheck about its commands."""
    completed = subprocess.run(
        [actionlint.program(), "-no-color", file], cwd=file.parent, capture_output=True, text=True, check=False
    )
    assert completed.returncode in (0, 1), completed.stderr
    return completed.stdout


def test_actionlint_accepts_the_workflow() -> None:
    assert actionlint_findings(in_body(WORKFLOW)) == ""


@pytest.mark.parametrize(
    ("text", "broken", "problem"),
    [
        ("needs: check", "needs: chekc", 'needs job "chekc" which does not exist'),
        ("github.ref_type", "github.ref_typ", 'property "ref_typ" is not defined'),
        ('"$GITHUB_ACTOR"', "$GITHUB_ACTOR", "SC2086"),
        ("id-token: write", "id_token: write", 'unknown permission scope "id_token"'),
    ],
)
def test_actionlint_reports_a_mistake(tmp_path: Path, text: str, broken: str, problem: str) -> None:
    assert problem in actionlint_findings(changed(in_body(WORKFLOW), tmp_path, text, broken))


def changed(file: Path, place: Path, old: str, new: str) -> Path:
    """Return a copy of a file in which one text is replaced."""
    text = file.read_text(encoding="utf-8")
    assert old in text
    copy = place / file.name
    copy.write_text(text.replace(old, new), encoding="utf-8")
    return copy


# The repository's own workflow


def test_the_repositorys_own_workflow_is_valid() -> None:
    assert actionlint_findings(ROOT / WORKFLOW) == ""
    assert schemas.refusals("vendor.github-workflows", ROOT / WORKFLOW) == ""


@pytest.mark.parametrize(
    ("text", "broken", "problem"),
    [
        ("make lint test-fast", 'make $(echo "$TARGET")', "SC2046"),
        ("hashFiles(", "hashFile(", 'undefined function "hashFile"'),
        ("ubuntu-24.04", "ubuntu-24.05", 'label "ubuntu-24.05" is unknown'),
        ("contents: read", "content: read", 'unknown permission scope "content"'),
    ],
)
def test_actionlint_checks_the_repositorys_own_workflow(tmp_path: Path, text: str, broken: str, problem: str) -> None:
    assert problem in actionlint_findings(changed(ROOT / WORKFLOW, tmp_path, text, broken))


def test_the_repositorys_own_workflow_runs_the_checks_with_read_access() -> None:
    text = (ROOT / WORKFLOW).read_text(encoding="utf-8")
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {"contents": "read"}
    assert {"push", "pull_request"} <= set(workflow["on"])
    (job,) = workflow["jobs"].values()
    assert "permissions" not in job
    assert [step["run"] for step in job["steps"] if "run" in step] == ["make lint test-fast"]
    actions = re.findall(r"uses: (.*)", text)
    assert all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", action) for action in actions), actions


# The files of a project


@pytest.mark.parametrize(("schema", "name"), [("vendor.github-workflows", WORKFLOW), ("vendor.gitlab-ci", PIPELINE)])
def test_the_schema_accepts_the_file(schema: str, name: str) -> None:
    assert schemas.refusals(schema, in_body(name)) == ""


@pytest.mark.parametrize(
    ("schema", "name", "text", "broken"),
    [
        ("vendor.github-workflows", WORKFLOW, "runs-on:", "run-on:"),
        ("vendor.gitlab-ci", PIPELINE, "\npublish:", "\nimage:"),
        ("vendor.gitlab-ci", PIPELINE, "aud: sigstore", "audience: sigstore"),
    ],
)
def test_the_schema_rejects_a_mistake(tmp_path: Path, schema: str, name: str, text: str, broken: str) -> None:
    assert schemas.refusals(schema, changed(in_body(name), tmp_path, text, broken))


def jobs(name: str) -> dict[str, Any]:
    """Return the jobs of a workflow by name."""
    content = yaml.safe_load(in_body(name).read_text(encoding="utf-8"))
    return content.get("jobs", content)


def commands(name: str, job: str) -> list[str]:
    """Return the commands of a job, without those that install packages."""
    steps = jobs(name)[job]
    lines = steps.get("script") or [step["run"] for step in steps["steps"] if "run" in step]
    return [command for command in lines if not command.startswith("apt-get ")]


@pytest.mark.parametrize("name", [WORKFLOW, PIPELINE])
def test_a_push_is_checked_by_the_projects_own_commands(name: str) -> None:
    """tests/test_generated_project.py runs `make test` itself."""
    assert commands(name, "check") == ["make lint", "make test"]
    assert commands(name, "audit") == ["make audit"]
    assert commands(name, "publish")[-1] == f"{SCRIPT} publish"
    (image,) = {jobs(name)[job].get("image") or jobs(name)[job]["container"] for job in ("check", "audit")}
    base = re.search(r"^ARG BASE=(\S+)$", in_body("deploy/images/pipeline.Dockerfile").read_text(), re.MULTILINE)
    assert base is not None
    assert image == base[1]


def test_jobs_have_only_the_rights_they_use() -> None:
    """A token is never on a command line."""
    workflow = yaml.safe_load(in_body(WORKFLOW).read_text(encoding="utf-8"))
    assert workflow["permissions"] == {}
    for job in ("check", "audit"):
        assert jobs(WORKFLOW)[job]["permissions"] == {"contents": "read"}
    assert jobs(WORKFLOW)["publish"]["permissions"] == {"contents": "read", "packages": "write", "id-token": "write"}
    for name in (WORKFLOW, PIPELINE):
        for command in commands(name, "publish"):
            assert "docker login" not in command or "--password-stdin" in command


def test_actions_and_images_are_pinned() -> None:
    """Each has a hash and, for readers, a version."""
    workflow = in_body(WORKFLOW).read_text(encoding="utf-8")
    actions = re.findall(r"uses: (\S+)(.*)", workflow)
    assert actions
    for action, remark in actions:
        assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action)
        assert re.fullmatch(r"  # v\d+\.\d+\.\d+", remark)
    pinned = r"[\w./-]+:v?\d+\.\d+\.\d+[\w-]*@sha256:[0-9a-f]{64}"
    publish = jobs(PIPELINE)["publish"]
    makers = re.findall(r"^[A-Z]+=(\S+/\S+)$", in_body(SCRIPT).read_text(encoding="utf-8"), re.MULTILINE)
    assert len(makers) == 2
    for image in (publish["image"], publish["services"][0]["name"], *makers):
        assert re.fullmatch(pinned, image), image


# The names of images


@pytest.fixture(name="project")
def _project(tmp_path: Path) -> Path:
    """A project in a git repository."""
    folder = doors.accelerator(ROOT, {"ci": "gitlab", "appPlatform": "kubernetes"}, tmp_path / "place").folder
    assert folder is not None
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    return folder


def git(project: Path, *command: str) -> None:
    subprocess.run(["git", *command], cwd=project, check=True, capture_output=True)


def run(
    project: Path, *words: str, images: str = "registry.example.com/ML", programs: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run the script; `programs` is a folder that comes first on PATH."""
    path = os.pathsep.join(filter(None, [programs, os.environ["PATH"]]))
    return subprocess.run(
        [project / SCRIPT, *words], cwd="/", env={"PATH": path, "IMAGES": images},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def names(project: Path) -> dict[str, str]:
    """Return the names of the images by their keys of deploy/values.yaml."""
    git(project, "add", "--all")
    completed = run(project, "names")
    assert completed.returncode == 0, completed.stderr
    return yaml.safe_load(completed.stdout)


def append(project: Path, name: str) -> None:
    with (project / name).open("a", encoding="utf-8") as file:
        file.write("# another\n")


def test_names_suit_the_values(project: Path) -> None:
    images = names(project)
    assert set(images) == {"pipeline.image", "app.image"}
    for key, name in images.items():
        assert re.fullmatch(rf"registry\.example\.com/ml/{key.partition('.')[0]}:[0-9a-f]{{12}}", name)


@pytest.mark.parametrize(
    ("change", "new"),
    [
        ("README.md", set()),
        ("model.py", set()),
        ("pipeline/steps/train_model.py", set()),
        ("requirements/inference-db.txt", set()),
        ("requirements/pipeline.txt", {"pipeline.image"}),
        ("deploy/images/pipeline.Dockerfile", {"pipeline.image"}),
        ("local/package-lock.json", {"pipeline.image"}),
        ("requirements/app.txt", {"app.image"}),
        ("requirements/ui.txt", {"app.image"}),
        ("app/api.py", {"app.image"}),
        ("project.yaml", {"app.image"}),
        (".dockerignore", {"pipeline.image", "app.image"}),
    ],
)
def test_an_image_gets_a_new_name_when_its_inputs_change(project: Path, change: str, new: set[str]) -> None:
    before = names(project)
    append(project, change)
    after = names(project)
    assert {key for key in before if before[key] != after[key]} == new


def test_the_same_files_give_the_same_name_in_a_shallow_clone(project: Path, tmp_path: Path) -> None:
    """Workflows check out a shallow clone."""
    before = names(project)
    git(project, "-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "--quiet", "--message=all")
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{project}", "clone")
    assert names(tmp_path / "clone") == before


def change_the_lock(project: Path) -> None:
    append(project, "requirements/pipeline.txt")


def remove_the_history(project: Path) -> None:
    (project / ".git").rename(project.parent / "elsewhere")


def change_nothing(_project: Path) -> None:
    """Leave the project as it is."""


@pytest.mark.parametrize(
    ("change", "words", "images", "message"),
    [
        (change_the_lock, ["names"], "r/x", "requirements/pipeline.txt has changes that git does not know"),
        (remove_the_history, ["names"], "r/x", "is no git repository: the names come from it"),
        (change_nothing, ["names"], "", "IMAGES is not set: where the images lie, for example"),
        (change_nothing, ["publihs"], "r/x", "say names or publish"),
        (change_nothing, [], "r/x", "say names or publish"),
    ],
)
def test_a_mistake_is_reported_in_one_line(
    project: Path, change: Callable[[Path], None], words: list[str], images: str, message: str
) -> None:
    change(project)
    completed = run(project, *words, images=images)
    assert completed.returncode == 1
    assert completed.stdout == ""
    (line,) = completed.stderr.splitlines()
    assert line.startswith("publish-image: ")
    assert message in line


def test_an_app_built_by_the_platform_has_no_image(tmp_path: Path) -> None:
    folder = doors.accelerator(ROOT, {"ci": "github", "appPlatform": "tap"}, tmp_path / "place").folder
    assert folder is not None
    git(folder, "init", "--quiet")
    assert set(names(folder)) == {"pipeline.image"}


# Publishing: the order of the commands, recorded by a fake docker

DOCKER = r"""#!/bin/sh
# Records its commands; a file in pushed/ is an image in the registry. Commands in the file fails fail.
set -eu
here=$(dirname "$(dirname "$0")")
record() {
    echo "$*" >> "$here/log"
    ! grep -qxF "$1 $2" "$here/fails"
}
file() {
    echo "$here/pushed/$(echo "$1" | tr '/:' '__')"
}
case $1 in
    manifest) test -e "$(file "$3")" ;;
    build) record build "$5" ;;
    push) record push "$3" && touch "$(file "$3")" ;;
    inspect) echo "other.example.com/$(basename "${4%:*}")@sha256:1"; echo "${4%:*}@sha256:1" ;;
    tag) record tag "$3" ;;
    create) echo "$2" ;;
    cp)
        program=$3/$(basename "$2")
        printf '#!/bin/sh\necho "%s $*" >> "%s/log"\n! grep -qxF "%s $1" "%s/fails"\n' \
            "$(basename "$2")" "$here" "$(basename "$2")" "$here" > "$program"
        chmod +x "$program"
        ;;
    rm) ;;
    *) exit 2 ;;
esac
"""


@pytest.fixture(name="registry")
def _registry(tmp_path: Path) -> Path:
    """A folder with the fake docker in bin/, and its records."""
    folder = tmp_path / "registry"
    for part in ("bin", "pushed"):
        (folder / part).mkdir(parents=True)
    (folder / "bin" / "docker").write_text(DOCKER, encoding="utf-8")
    (folder / "bin" / "docker").chmod(0o755)
    for part in ("fails", "log"):
        (folder / part).touch()
    return folder


def calls(registry: Path) -> list[str]:
    """Return the recorded commands, without options and folders."""
    lines = (registry / "log").read_text(encoding="utf-8").splitlines()
    return [re.sub(r"--(quiet|yes) |--(output|predicate) \S+ ?", "", line).strip() for line in lines]


def test_an_image_is_tagged_after_signing_and_built_once(project: Path, registry: Path) -> None:
    image_names = names(project)
    first = run(project, "publish", programs=str(registry / "bin"))
    assert (first.returncode, first.stderr) == (0, "")
    assert dict(re.findall(r"^(\S+\.image): (\S+)$", first.stdout, re.M)) == image_names
    expected = []
    for name in image_names.values():
        digest = f"{name.partition(':')[0]}@sha256:1"
        expected += [
            f"build {name}-unsigned", f"push {name}-unsigned", f"syft scan docker:{name}-unsigned",
            f"cosign sign {digest}", f"cosign attest --type spdxjson {digest}", f"tag {name}", f"push {name}",
        ]  # fmt: skip
    assert calls(registry) == expected
    second = run(project, "publish", programs=str(registry / "bin"))
    assert second.stdout.count("is there already") == 2
    assert calls(registry) == expected


@pytest.mark.parametrize("failing", ["build", "syft scan", "cosign sign", "cosign attest"])
def test_a_failed_publication_leaves_no_tag_and_is_repeated(project: Path, registry: Path, failing: str) -> None:
    name = names(project)["pipeline.image"]
    line = failing if " " in failing else f"{failing} {name}-unsigned"
    (registry / "fails").write_text(line + "\n", encoding="utf-8")
    assert run(project, "publish", programs=str(registry / "bin")).returncode != 0
    assert f"push {name}" not in calls(registry)
    (registry / "fails").write_text("", encoding="utf-8")
    assert run(project, "publish", programs=str(registry / "bin")).returncode == 0
    assert f"push {name}" in calls(registry)
