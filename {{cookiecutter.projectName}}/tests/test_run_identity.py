"""A run's stage, image, name, commit and outcomes, as an orchestrator sets and reads them."""

import os
import shutil
import subprocess

import pytest
from fake_servers import write_program

from pipeline import __main__ as command
from pipeline import lock_file, outcomes, run_identity, settings
from pipeline.errors import StepError

pytestmark = pytest.mark.usefixtures("clean_environment")


def test_model_stage_overrides_the_projects_stage(monkeypatch) -> None:
    other = {"staging": "production", "production": "staging"}[settings.settings().promotion_stage]
    settings.settings.cache_clear()
    monkeypatch.setenv("MODEL_STAGE", other)
    assert settings.settings().promotion_stage == settings.chosen_stage("") == other


def test_an_unknown_stage_is_refused(monkeypatch) -> None:
    monkeypatch.setenv("MODEL_STAGE", "test")
    with pytest.raises(StepError, match=r"^MODEL_STAGE is 'test'; allowed is staging or production$"):
        settings.settings()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("numpy==1\n", "the image was built from another lock file .*pipeline.image"),
        (None, r"ENVIRONMENT_LOCK names \S+, which cannot be read: No such file or directory; rebuild the image"),
    ],
)
def test_an_image_of_another_lock_file_is_refused_before_the_step(monkeypatch, tmp_path, content, message) -> None:
    lock = tmp_path / "requirements.txt"
    if content:
        lock.write_text(content, encoding="utf-8")
    monkeypatch.setenv("ENVIRONMENT_LOCK", str(lock))
    with pytest.raises(StepError, match=message):
        command.command_line()(["train_model", "--epochs", "0"], standalone_mode=False)
    # finish_run runs in any image.
    with pytest.raises(StepError, match="there is no run to finish"):
        command.command_line()(["finish_run"], standalone_mode=False)


def test_an_image_of_the_same_lock_file_is_accepted(monkeypatch, tmp_path) -> None:
    shutil.copy(lock_file.COMMITTED, tmp_path / "requirements.txt")
    monkeypatch.setenv("ENVIRONMENT_LOCK", str(tmp_path / "requirements.txt"))
    with pytest.raises(StepError, match="epochs is 0"):
        command.command_line()(["train_model", "--epochs", "0"], standalone_mode=False)


def test_a_run_without_a_name_gets_one(monkeypatch) -> None:
    name = run_identity.pipeline_run()
    assert run_identity.pipeline_run() == os.environ["PIPELINE_RUN"] == name
    assert not run_identity.is_named()
    monkeypatch.setenv("PIPELINE_RUN", "image-classifier-ver-1-1763740000")
    assert run_identity.pipeline_run() == "image-classifier-ver-1-1763740000"
    assert run_identity.is_named()


@pytest.mark.parametrize("name", ["a b", "a;b", "a'", "$HOME", "a#b", "a\n", "x" * 101, "a/b", "2026-11-21T10:00:00Z"])
def test_a_run_name_with_other_characters_is_refused(monkeypatch, name) -> None:
    monkeypatch.setenv("PIPELINE_RUN", name)
    with pytest.raises(StepError, match=r"^PIPELINE_RUN is .*; allowed are 1 to 100 letters, digits"):
        run_identity.pipeline_run()


def test_git_commit_needs_no_git(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError):
        subprocess.run(["git", "--version"])
    assert run_identity.code_tag("database/inference").startswith("uncommitted-")
    run_identity.git_commit.cache_clear()
    monkeypatch.setenv("GIT_COMMIT", "a" * 40)
    assert run_identity.code_tag("database/inference") == "a" * 40


def test_git_commit_is_the_tag_of_a_changed_checkout(monkeypatch, tmp_path) -> None:
    answers = 'case "$2" in --show-toplevel) pwd;; HEAD) echo another;; *) echo "?? database/1.sql";; esac'
    write_program(tmp_path / "git", answers)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert run_identity.git_commit() == "another"
    assert run_identity.code_tag("database/inference").startswith("uncommitted-")
    run_identity.git_commit.cache_clear()
    monkeypatch.setenv("GIT_COMMIT", "a" * 40)
    assert run_identity.code_tag("database/inference") == "a" * 40


def test_an_outcome_that_cannot_be_written_is_a_failure(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("STEP_OUTPUTS", str(tmp_path / "outputs"))
    outcomes.write_outcome("promoted", "true")
    assert (tmp_path / "outputs" / "promoted").read_text(encoding="utf-8") == "true"
    monkeypatch.setenv("STEP_OUTPUTS", str(tmp_path / "outputs" / "promoted" / "below"))
    with pytest.raises(StepError, match="decision cannot be written: Not a directory"):
        outcomes.write_outcome("decision", "fine")
