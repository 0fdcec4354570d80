"""The S3 store of the local tracking server: how it is named, and that steps do not see it."""

import os
import re

import pytest

from local import mlflow_backend
from local.errors import LocalError
from local.state import State

STORE = {
    "MLFLOW_ARTIFACTS_DESTINATION": "s3://bucket/path",
    "MLFLOW_S3_ENDPOINT_URL": "https://s3.example.com:9000",
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
}


@pytest.fixture(autouse=True)
def _without_store(monkeypatch):
    """Remove the store that the environment of the tests names."""
    for name in list(os.environ):
        if mlflow_backend.OURS.fullmatch(name):
            monkeypatch.delenv(name)


@pytest.fixture
def shell(monkeypatch):
    """monkeypatch, with the store's variables set."""
    for name, value in STORE.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_without_a_destination_nothing_is_chosen(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a person's own")
    assert mlflow_backend.from_environment() == {}
    assert mlflow_backend.without_keys({"AWS_ACCESS_KEY_ID": "a person's own"}) == {
        "AWS_ACCESS_KEY_ID": "a person's own"
    }


def test_a_step_sees_nothing_of_the_store(shell):
    assert mlflow_backend.from_environment() == STORE
    assert mlflow_backend.without_keys({**STORE, "PATH": "/bin", "MLFLOW_TRACKING_URI": "x"}) == {
        "PATH": "/bin",
        "MLFLOW_TRACKING_URI": "x",
    }


@pytest.mark.parametrize(
    "destination", ["bucket", "/artifacts", "s3://", "s3://UPPER", "https://bucket/x", "s3://a:b@bucket", "s3://b/x?y"]
)
def test_a_wrong_destination_is_refused(shell, destination):
    shell.setenv("MLFLOW_ARTIFACTS_DESTINATION", destination)
    with pytest.raises(
        LocalError, match=f"^MLFLOW_ARTIFACTS_DESTINATION is '{re.escape(destination)}': allowed is s3://"
    ):
        mlflow_backend.from_environment()


@pytest.mark.parametrize(
    "endpoint", ["s3.example.com", "ftp://s3.example.com", "https://k:s@s3.example.com", "https://x/y"]
)
def test_a_wrong_endpoint_is_refused_and_not_repeated(shell, endpoint):
    shell.setenv("MLFLOW_S3_ENDPOINT_URL", endpoint)
    with pytest.raises(LocalError, match=r"^MLFLOW_S3_ENDPOINT_URL is not an address: allowed is") as raised:
        mlflow_backend.from_environment()
    assert endpoint not in str(raised.value)


def test_the_keys_of_a_file_replace_the_variable(shell, tmp_path):
    file = tmp_path / "credentials"
    file.write_text("[default]\naws_access_key_id = other\n[team]\naws_access_key_id = k\naws_secret_access_key = s%\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        shell.delenv(name)
    shell.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    shell.setenv("AWS_PROFILE", "team")
    variables = mlflow_backend.from_environment()
    assert (variables["AWS_ACCESS_KEY_ID"], variables["AWS_SECRET_ACCESS_KEY"]) == ("k", "s%")
    assert not {"AWS_SHARED_CREDENTIALS_FILE", "AWS_PROFILE"} & variables.keys()
    file.write_text("no section")
    with pytest.raises(LocalError, match="it is not in AWS's format"):
        mlflow_backend.from_environment()
    shell.setenv("AWS_SHARED_CREDENTIALS_FILE", "/not/there")
    with pytest.raises(LocalError, match="/not/there cannot be read: No such file or directory"):
        mlflow_backend.from_environment()


def test_the_store_of_the_start_stays(shell, tmp_path):
    state = State(tmp_path)
    assert mlflow_backend.chosen(state) == STORE
    state.keep_variables("mlflow", STORE)
    shell.delenv("MLFLOW_ARTIFACTS_DESTINATION")
    again = State(tmp_path)
    assert again.load()
    assert mlflow_backend.chosen(again) == STORE


@pytest.mark.parametrize("stored", [{}, {**STORE, "MLFLOW_ARTIFACTS_DESTINATION": "s3://another"}])
def test_another_store_is_refused_while_there_are_runs(shell, tmp_path, stored):
    state = State(tmp_path)
    state.keep_variables("mlflow", stored)
    (tmp_path / "mlflow" / "data").mkdir(parents=True)
    with pytest.raises(LocalError, match="run `make down`, which removes its runs"):
        mlflow_backend.chosen(state)


def test_an_older_state_is_read(tmp_path):
    (tmp_path / "state.json").write_text('{"servers": {}, "passwords": {"a": "b"}}')
    state = State(tmp_path)
    assert state.load()
    assert state.variables("mlflow") == {}
    assert state.password("a") == "b"
