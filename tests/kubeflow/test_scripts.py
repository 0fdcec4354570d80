"""The scripts that a container runs."""

import os
import subprocess
from pathlib import Path

import pytest

from .pipelines import Pipeline

pytestmark = pytest.mark.slow


@pytest.fixture(name="repository")
def _repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    for command in (["init", "--quiet", "-b", "main", folder], ["-C", folder, "add", "--all"]):
        folder.mkdir(exist_ok=True)
        (folder / "file").write_text("1", encoding="utf-8")
        subprocess.run(["git", *command], check=True, capture_output=True)
    commit(folder)
    return folder


def scripts(pipeline: Pipeline) -> dict[str, str]:
    return {name: executor["container"]["command"][2] for name, executor in pipeline.executors.items()}


def run_script(script: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", script, "step", *arguments], env={"PATH": os.environ["PATH"], **variables},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def commit(folder: Path) -> str:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
    subprocess.run(["git", *who, "commit", "--quiet", "--all", "--message=x"], cwd=folder, check=True)
    process = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True)
    return process.stdout.strip()


def test_shellcheck_has_nothing_against_the_scripts(train: Pipeline) -> None:
    final = [argument for argument in train.container("finish-run")["args"] if "esac" in argument]
    assert len(final) == 1
    for script in {*scripts(train).values(), *final}:
        process = subprocess.run(
            ["shellcheck", "--shell=sh", "-"], input=script, capture_output=True, text=True, check=False
        )
        assert process.stdout == ""


def test_the_commit_is_chosen_once_and_every_step_works_on_it(
    train: Pipeline, repository: Path, tmp_path: Path
) -> None:
    """A later commit, an empty option and a glob change nothing; the outcome is the text that the step wrote."""
    output = tmp_path / "outputs" / "sha"
    process = run_script(scripts(train)["exec-fetch-git-revision"], str(repository), "main", str(output))
    assert process.returncode == 0, process.stderr
    sha = output.read_text(encoding="utf-8")
    (repository / "file").write_text("2", encoding="utf-8")
    assert commit(repository) != sha
    command = [
        "sh",
        "-c",
        'cat file; printf " %s" "$GIT_COMMIT" "$PIPELINE_RUN" "$@"; echo yes > "$STEP_OUTPUTS/promoted"',
        "x",
    ]
    arguments = [
        str(repository),
        sha,
        "run-1",
        "--epochs=3 --seed= --glob=*",
        "promoted",
        "no",
        str(tmp_path / "promoted"),
    ]
    process = run_script(scripts(train)["exec-promote-model"], *arguments, *command, TMPDIR=str(tmp_path))
    assert process.stdout == f"1 {sha} run-1 --epochs=3 --glob=*", process.stderr
    assert (tmp_path / "promoted").read_text(encoding="utf-8") == "yes\n"
    process = run_script(scripts(train)["exec-promote-model"], *arguments, "true", TMPDIR=str(tmp_path))
    assert (tmp_path / "promoted").read_text(encoding="utf-8") == "no"
    process = run_script(
        scripts(train)["exec-train-model"], *arguments[:4], "", "", "", "sh", "-c", "exit 75", TMPDIR=str(tmp_path)
    )
    assert process.returncode == 75


def test_a_branch_that_is_not_there_ends_the_run(train: Pipeline, repository: Path, tmp_path: Path) -> None:
    process = run_script(scripts(train)["exec-fetch-git-revision"], str(repository), "other", str(tmp_path / "sha"))
    assert process.returncode != 0
    assert not (tmp_path / "sha").exists()


@pytest.mark.parametrize(
    ("final_status", "status"),
    [('{"state":"SUCCEEDED"}', "Succeeded"), ('{"state": "FAILED"}', "Failed"), ("CANCELLED", ""), ("{}", "Failed")],
)
def test_the_status_is_given_in_the_steps_words(train: Pipeline, final_status: str, status: str) -> None:
    (script,) = [argument for argument in train.container("finish-run")["args"] if "esac" in argument]
    assert run_script(script, final_status, "echo").stdout == f"--status={status}\n"
