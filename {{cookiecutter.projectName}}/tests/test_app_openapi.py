"""app/openapi.json describes the API; of the project's answers it holds only the name and the description."""

import difflib
import json

import pytest
import yaml
from fastapi.testclient import TestClient

from app import endpoints, openapi, settings
from app.authentication import Nobody


@pytest.fixture(autouse=True)
def _forget():
    settings.settings.cache_clear()
    yield
    settings.settings.cache_clear()


class NoModel:
    """A database in which no version holds the stage."""

    def model(self) -> None:
        """Return nothing."""


def test_it_is_not_stale() -> None:
    """The file equals the description that the API serves while there is no model."""
    assert openapi.main(["--check"]) == 0
    served = TestClient(endpoints.create_app(settings.settings(), NoModel(), Nobody())).get("/openapi.json").json()
    assert json.loads(openapi.FILE.read_text(encoding="utf-8")) == served


def test_it_is_written_and_checked(monkeypatch, tmp_path, capsys) -> None:
    """The error is one sentence that names the fix."""
    committed = openapi.FILE.read_bytes()
    monkeypatch.setattr(openapi, "FILE", tmp_path / "openapi.json")
    message = "error: app/openapi.json is not up to date with the API: run `make openapi`\n"
    assert (openapi.main(["--check"]), capsys.readouterr().err) == (1, message)
    assert (openapi.main([]), openapi.main(["--check"])) == (0, 0)
    assert openapi.FILE.read_bytes() == committed
    openapi.FILE.write_bytes(committed.replace(b"Classify", b"Judge", 1))
    assert (openapi.main(["--check"]), capsys.readouterr().err) == (1, message)
    assert openapi.main(["--write"]) == 1
    assert "--check or nothing" in capsys.readouterr().err


def test_other_answers_change_name_and_description_alone(monkeypatch, tmp_path) -> None:
    answers = yaml.safe_load((openapi.FILE.parent.parent / "project.yaml").read_text(encoding="utf-8"))
    stage = {"staging": "production", "production": "staging"}[answers["promotionStage"]]
    changed = {"projectName": "another", "description": "Äpfel & Birnen", "promotionStage": stage}
    (tmp_path / "project.yaml").write_text(yaml.safe_dump({**answers, **changed}), encoding="utf-8")
    before = openapi.description(settings.settings())
    settings.settings.cache_clear()
    monkeypatch.setenv("PROJECT_FILE", str(tmp_path / "project.yaml"))
    monkeypatch.setenv("CORS_ORIGINS", "*")
    after = openapi.description(settings.settings())
    lines = difflib.ndiff(before.splitlines(), after.splitlines())
    assert [line[2:].strip() for line in lines if line.startswith("+")] == [
        '"title": "another",',
        '"description": "Äpfel & Birnen",',
    ]


def test_no_brace_meets_another() -> None:
    """The template would read two braces as a placeholder."""
    text = openapi.FILE.read_text(encoding="utf-8")
    assert "{prediction_id}" in text
    assert not [mark for mark in "#%{" if "{" + mark in text]
