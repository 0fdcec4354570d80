"""The doctor gives one answer per part, on this machine and in the databases."""

import contextlib
import pathlib

import pytest

from local import __main__ as local_main
from local import doctor as local_doctor
from local import environments, packages
from local.errors import LocalError
from pipeline import databases, doctor
from pipeline.errors import StepError

JAVA = f"Java {packages.OLDEST_JAVA} or newer"


@pytest.fixture(name="report")
def _report(monkeypatch, capsys):
    """The lines of the report on this machine, where everything but Java is there."""
    monkeypatch.setattr(packages.shutil, "which", lambda name: None if "java" in name else f"/usr/bin/{name}")
    monkeypatch.setattr(packages, "installed_postgresql", lambda: 15)
    monkeypatch.setattr(packages, "system_python", lambda: ("3.11", True))
    monkeypatch.setattr(environments, "is_complete", lambda folder: True)
    monkeypatch.delenv("SERVICE_BINDING_ROOT", raising=False)
    monkeypatch.delenv("JAVA_HOME", raising=False)

    def lines() -> list[str]:
        missing = local_doctor.report(["pipeline"])
        printed = capsys.readouterr().out.splitlines()
        assert missing == sum(line.startswith("missing") for line in printed)
        return printed

    return lines


class TestThisMachine:
    def test_each_part_has_one_line(self, report):
        parts = [line.split(maxsplit=1)[1] for line in report() if not line.startswith(" ")]
        assert parts[:4] == ["PostgreSQL with PL/Python 15", "Python's venv", "openssl", JAVA]
        assert len(set(parts)) == len(parts)

    def test_java_is_missing(self, report):
        assert [line for line in report() if "Java" in line] == [f"missing  {JAVA}"]

    def test_a_wrong_java_home_is_the_only_line_about_java(self, report, monkeypatch):
        monkeypatch.setenv("JAVA_HOME", "/nowhere")
        lines = report()
        assert [line for line in lines if JAVA in line and "fix:" not in line] == [f"missing  {JAVA}"]
        assert (
            lines[lines.index(f"missing  {JAVA}") + 1]
            == f"         fix: JAVA_HOME is /nowhere, where there is no {JAVA}: point it at one, or unset it"
        )

    def test_what_bindings_make_unnecessary_is_not_reported(self, report, monkeypatch):
        monkeypatch.setenv("SERVICE_BINDING_ROOT", "/bindings")
        assert not [line for line in report() if "openssl" in line or "PostgreSQL" in line]

    def test_a_wrong_python_is_not_reported_as_java(self, report, monkeypatch):
        def refuse() -> tuple[str, bool]:
            raise LocalError("/usr/bin/python3 is Python 3.10; 3.11 or newer is needed")

        monkeypatch.setattr(packages, "system_python", refuse)
        lines = report()
        assert "missing  Python 3.11 or newer" in lines
        assert "         fix: /usr/bin/python3 is Python 3.10; 3.11 or newer is needed" in lines
        assert not [line for line in lines if "environment" in line or "venv" in line]

    @pytest.mark.parametrize(
        ("running", "tracking", "named"),
        [
            ((), "", "training, inference, mlflow"),
            (("training", "inference"), "", "mlflow"),
            (("training",), "https://mlflow.example.com", "inference"),
        ],
    )
    def test_servers_that_do_not_run_are_named(self, monkeypatch, tmp_path, running, tracking, named):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking)
        state = local_main.State(tmp_path)
        for name in running:
            state.keep_server(name, port=1, environment="")
        monkeypatch.setattr(local_main.startup.Server, "is_running", lambda server: server.name in running)
        assert local_main._stopped(state) == named.split(", ")


class TestServers:
    @pytest.fixture
    def java(self, tmp_path, monkeypatch):
        """A folder for JAVA_HOME; no other Java is on PATH."""
        monkeypatch.setenv("PATH", "/nowhere")
        monkeypatch.setenv("JAVA_HOME", str(tmp_path))
        (tmp_path / "bin").mkdir()
        yield tmp_path / "bin" / "java"
        doctor.java.cache_clear()

    def finding(self) -> doctor.Finding:
        doctor.java.cache_clear()
        return doctor.java()

    def test_java_home_decides_as_it_does_for_liquibase(self, java: pathlib.Path):
        lines = "Picked up JAVA_TOOL_OPTIONS: -X", 'openjdk version "21.0.1"'
        java.write_text("\n".join(["#!/bin/sh", *(f"echo '{line}' >&2" for line in lines)]))
        java.chmod(0o755)
        assert str(self.finding()) == 'found    Java: openjdk version "21.0.1"'

    def test_a_wrong_java_home(self, java: pathlib.Path):
        assert str(self.finding()) == (
            f"missing  Java: JAVA_HOME is {java.parent.parent}, where there is no bin/java\n"
            "         fix: point JAVA_HOME at Java 17 or later, or unset it"
        )

    def test_a_tracking_server_is_not_started_beside_bindings(self, clean_environment, monkeypatch):
        monkeypatch.setenv("SERVICE_BINDING_ROOT", "/bindings")
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        finding = doctor.mlflow_server()
        assert finding.detail == "MLFLOW_TRACKING_URI is not set"
        assert finding.fix.startswith("set it to your tracking server: with SERVICE_BINDING_ROOT,")

    @pytest.mark.parametrize("check", [doctor.deploying_role, doctor.public_schema, doctor.training_packages])
    def test_a_database_that_does_not_answer_is_the_reason_of_each_check(self, monkeypatch, check):
        def refuse(name: str) -> databases.Connection:
            raise StepError("training-deployer: Connection refused")

        monkeypatch.setattr(doctor, "session", refuse)
        check.cache_clear()
        finding = check()
        check.cache_clear()
        assert (finding.is_there, finding.detail) == (False, "Connection refused")
        assert finding.fix.startswith("start the local servers")
        assert "superuser" not in finding.name

    @pytest.mark.parametrize("is_writable", [True, False])
    def test_a_writable_public_schema_is_advice(self, monkeypatch, is_writable):
        monkeypatch.setattr(doctor, "session", lambda _: contextlib.nullcontext())
        monkeypatch.setattr(doctor, "query", lambda *_: [(is_writable,)])
        doctor.public_schema.cache_clear()
        finding = doctor.public_schema()
        doctor.public_schema.cache_clear()
        assert finding.is_there
        assert ("REVOKE CREATE ON SCHEMA public FROM PUBLIC" in finding.detail) == is_writable
