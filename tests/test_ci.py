"""What checks a generated project on each push: GitHub's and GitLab's files, and the script that publishes images."""

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
OF_CI = {WORKFLOW, PIPELINE, SCRIPT, "docs/ci.md"}
pytestmark = pytest.mark.slow


def files(place: Path, **answers: object) -> set[str]:
    """Return a project's files that have to do with checks."""
    folder = doors.accelerator(ROOT, answers, place).folder
    assert folder is not None
    return OF_CI & {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize(
    ("ci", "there"),
    [("none", set()), ("github", OF_CI - {PIPELINE}), ("gitlab", OF_CI - {WORKFLOW})],
)
def test_only_what_was_chosen_is_there(tmp_path: Path, ci: str, there: set[str]) -> None:
    assert files(tmp_path, ci=ci) == there


# The files


def actionlint_says(file: Path) -> str:
    """Return what actionlint has against a workflow, and shellcheck against what it runs."""
    done = subprocess.run(
        [actionlint.program(), "-no-color", file], cwd=file.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


def test_actionlint_has_nothing_against_the_workflow() -> None:
    assert actionlint_says(in_body(WORKFLOW)) == ""


@pytest.mark.parametrize(
    ("given", "broken", "said"),
    [
        ("needs: check", "needs: chekc", 'needs job "chekc" which does not exist'),
        ("github.ref_type", "github.ref_typ", 'property "ref_typ" is not defined'),
        ('"$GITHUB_ACTOR"', "$GITHUB_ACTOR", "SC2086"),
        ("id-token: write", "id_token: write", 'unknown permission scope "id_token"'),
    ],
)
def test_actionlint_looks(tmp_path: Path, given: str, broken: str, said: str) -> None:
    assert said in actionlint_says(changed(in_body(WORKFLOW), tmp_path, given, broken))


def changed(file: Path, place: Path, given: str, broken: str) -> Path:
    """Return a copy of a file with another text in it."""
    text = file.read_text(encoding="utf-8")
    assert given in text
    copy = place / file.name
    copy.write_text(text.replace(given, broken), encoding="utf-8")
    return copy


# The repository's own workflow


def test_the_repositorys_own_workflow_is_valid() -> None:
    assert actionlint_says(ROOT / WORKFLOW) == ""
    assert schemas.refusals("vendor.github-workflows", ROOT / WORKFLOW) == ""


@pytest.mark.parametrize(
    ("given", "broken", "said"),
    [
        ("make lint test-fast", 'make $(echo "$TARGET")', "SC2046"),
        ("hashFiles(", "hashFile(", 'undefined function "hashFile"'),
        ("ubuntu-24.04", "ubuntu-24.05", 'label "ubuntu-24.05" is unknown'),
        ("contents: read", "content: read", 'unknown permission scope "content"'),
    ],
)
def test_actionlint_checks_the_repositorys_own_workflow(tmp_path: Path, given: str, broken: str, said: str) -> None:
    assert said in actionlint_says(changed(ROOT / WORKFLOW, tmp_path, given, broken))


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
def test_the_schema_has_nothing_against_the_file(schema: str, name: str) -> None:
    assert schemas.refusals(schema, in_body(name)) == ""


@pytest.mark.parametrize(
    ("schema", "name", "given", "broken"),
    [
        ("vendor.github-workflows", WORKFLOW, "runs-on:", "run-on:"),
        ("vendor.gitlab-ci", PIPELINE, "\npublish:", "\nimage:"),
        ("vendor.gitlab-ci", PIPELINE, "aud: sigstore", "audience: sigstore"),
    ],
)
def test_the_schema_looks(tmp_path: Path, schema: str, name: str, given: str, broken: str) -> None:
    assert schemas.refusals(schema, changed(in_body(name), tmp_path, given, broken))


def jobs(name: str) -> dict[str, Any]:
    """Return the two jobs of a file."""
    found = yaml.safe_load(in_body(name).read_text(encoding="utf-8"))
    return found.get("jobs", found)


def commands(name: str, job: str) -> list[str]:
    """Return what a job runs beside what it installs."""
    found = jobs(name)[job]
    told = found.get("script") or [step["run"] for step in found["steps"] if "run" in step]
    return [command for command in told if not command.startswith("apt-get ")]


@pytest.mark.parametrize("name", [WORKFLOW, PIPELINE])
def test_a_push_is_checked_by_the_projects_own_commands(name: str) -> None:
    """`make test` is run for real where the generated project's tests are."""
    assert commands(name, "check") == ["make lint", "make test"]
    assert commands(name, "publish")[-1] == f"{SCRIPT} publish"
    image = jobs(name)["check"].get("image") or jobs(name)["check"]["container"]
    base = re.search(r"^ARG BASE=(\S+)$", in_body("deploy/images/pipeline.Dockerfile").read_text(), re.MULTILINE)
    assert base is not None
    assert image == base[1]


def test_nothing_may_do_more_than_it_needs() -> None:
    """No job has a right that it does not use; a token stands on no command line."""
    workflow = yaml.safe_load(in_body(WORKFLOW).read_text(encoding="utf-8"))
    assert workflow["permissions"] == {}
    assert jobs(WORKFLOW)["check"]["permissions"] == {"contents": "read"}
    assert jobs(WORKFLOW)["publish"]["permissions"] == {"contents": "read", "packages": "write", "id-token": "write"}
    for name in (WORKFLOW, PIPELINE):
        for command in commands(name, "publish"):
            assert "docker login" not in command or "--password-stdin" in command


def test_what_others_made_is_pinned() -> None:
    """By a commit's or an image's hash, beside the version that a person reads."""
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


# Which image is new


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
    """Run the script; `programs` is a folder whose programs come before all others."""
    path = os.pathsep.join(filter(None, [programs, os.environ["PATH"]]))
    return subprocess.run(
        [project / SCRIPT, *words], cwd="/", env={"PATH": path, "IMAGES": images},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def names(project: Path) -> dict[str, str]:
    """Return the names of the images, by the key of deploy/values.yaml that they are for."""
    git(project, "add", "--all")
    done = run(project, "names")
    assert done.returncode == 0, done.stderr
    return yaml.safe_load(done.stdout)


def append(project: Path, name: str) -> None:
    with (project / name).open("a", encoding="utf-8") as file:
        file.write("# another\n")


def test_a_name_is_one_that_the_values_take(project: Path) -> None:
    found = names(project)
    assert set(found) == {"pipeline.image", "app.image"}
    for key, name in found.items():
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
def test_an_image_is_new_when_what_it_is_made_from_is(project: Path, change: str, new: set[str]) -> None:
    before = names(project)
    append(project, change)
    after = names(project)
    assert {key for key in before if before[key] != after[key]} == new


def test_the_same_files_have_the_same_name_in_any_clone(project: Path, tmp_path: Path) -> None:
    """A shallow clone is what a check works in."""
    before = names(project)
    git(project, "-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "--quiet", "--message=all")
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{project}", "clone")
    assert names(tmp_path / "clone") == before


def lock_is_changed(project: Path) -> None:
    append(project, "requirements/pipeline.txt")


def history_is_gone(project: Path) -> None:
    (project / ".git").rename(project.parent / "elsewhere")


def nothing(_project: Path) -> None:
    """Leave it as it is."""


@pytest.mark.parametrize(
    ("change", "words", "images", "said"),
    [
        (lock_is_changed, ["names"], "r/x", "requirements/pipeline.txt has changes that git does not know"),
        (history_is_gone, ["names"], "r/x", "is no git repository: the names come from it"),
        (nothing, ["names"], "", "IMAGES is not set: where the images lie, for example"),
        (nothing, ["publihs"], "r/x", "say names or publish"),
        (nothing, [], "r/x", "say names or publish"),
    ],
)
def test_a_mistake_is_one_sentence(
    project: Path, change: Callable[[Path], None], words: list[str], images: str, said: str
) -> None:
    change(project)
    done = run(project, *words, images=images)
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("publish-image: ")
    assert said in line


def test_an_app_that_the_platform_builds_has_no_image(tmp_path: Path) -> None:
    folder = doors.accelerator(ROOT, {"ci": "github", "appPlatform": "tap"}, tmp_path / "place").folder
    assert folder is not None
    git(folder, "init", "--quiet")
    assert set(names(folder)) == {"pipeline.image"}


# Publishing: what is done in which order, with a docker that only remembers

DOCKER = r"""#!/bin/sh
# Remembers what it was told; a file in pushed/ is an image in the registry. What stands in fails is what fails.
set -eu
here=$(dirname "$(dirname "$0")")
said() {
    echo "$*" >> "$here/log"
    ! grep -qxF "$1 $2" "$here/fails"
}
file() {
    echo "$here/pushed/$(echo "$1" | tr '/:' '__')"
}
case $1 in
    manifest) test -e "$(file "$3")" ;;
    build) said build "$5" ;;
    push) said push "$3" && touch "$(file "$3")" ;;
    inspect) echo "other.example.com/$(basename "${4%:*}")@sha256:1"; echo "${4%:*}@sha256:1" ;;
    tag) said tag "$3" ;;
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
    """A folder with that docker in bin/, and what it remembers."""
    folder = tmp_path / "registry"
    for part in ("bin", "pushed"):
        (folder / part).mkdir(parents=True)
    (folder / "bin" / "docker").write_text(DOCKER, encoding="utf-8")
    (folder / "bin" / "docker").chmod(0o755)
    for part in ("fails", "log"):
        (folder / part).touch()
    return folder


def done_for(registry: Path) -> list[str]:
    """What was done, without the options and the folders of programs."""
    lines = (registry / "log").read_text(encoding="utf-8").splitlines()
    return [re.sub(r"--(quiet|yes) |--(output|predicate) \S+ ?", "", line).strip() for line in lines]


def test_an_image_is_named_when_it_is_signed_and_made_once(project: Path, registry: Path) -> None:
    wanted = names(project)
    told = run(project, "publish", programs=str(registry / "bin"))
    assert (told.returncode, told.stderr) == (0, "")
    assert dict(re.findall(r"^(\S+\.image): (\S+)$", told.stdout, re.M)) == wanted
    expected = []
    for name in wanted.values():
        digest = f"{name.partition(':')[0]}@sha256:1"
        expected += [
            f"build {name}-unsigned", f"push {name}-unsigned", f"syft scan docker:{name}-unsigned",
            f"cosign sign {digest}", f"cosign attest --type spdxjson {digest}", f"tag {name}", f"push {name}",
        ]  # fmt: skip
    assert done_for(registry) == expected
    again = run(project, "publish", programs=str(registry / "bin"))
    assert again.stdout.count("is there already") == 2
    assert done_for(registry) == expected


@pytest.mark.parametrize("failing", ["build", "syft scan", "cosign sign", "cosign attest"])
def test_what_failed_half_way_has_no_name_and_is_done_again(project: Path, registry: Path, failing: str) -> None:
    wanted = names(project)["pipeline.image"]
    line = failing if " " in failing else f"{failing} {wanted}-unsigned"
    (registry / "fails").write_text(line + "\n", encoding="utf-8")
    assert run(project, "publish", programs=str(registry / "bin")).returncode != 0
    assert f"push {wanted}" not in done_for(registry)
    (registry / "fails").write_text("", encoding="utf-8")
    assert run(project, "publish", programs=str(registry / "bin")).returncode == 0
    assert f"push {wanted}" in done_for(registry)
