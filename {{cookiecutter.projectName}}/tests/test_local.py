"""The local servers: found again, revived, moved to another port, stopped, and never somebody else's."""

import contextlib
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import pytest

from local import environments, packages, processes, serve, startup, state
from local.clusters import Cluster
from local.errors import LocalError
from local.mlflow_server import MlflowServer

ROOT = pathlib.Path(__file__).resolve().parent.parent
SERVERS = ("training", "inference", "mlflow")
SERVICES = ["API", "page"] if serve.PAGE.exists() else ["API"]


# `make test` runs with bindings of other servers.
OUTER = ("SERVICE_BINDING_ROOT", "MLFLOW_TRACKING_URI", "LOCAL_STATE")


def variables(folder: pathlib.Path, **more: str) -> dict[str, str]:
    """The environment for commands that work on a state folder of the test's own."""
    inherited = {name: value for name, value in os.environ.items() if name not in OUTER}
    return {**inherited, "LOCAL_STATE": str(folder), **more}


def local(folder: pathlib.Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m local` on a state folder."""
    command = [sys.executable, "-m", "local", *arguments]
    return subprocess.run(command, cwd=ROOT, env=variables(folder, **more), capture_output=True, text=True)


def kill_training(folder: pathlib.Path) -> int:
    """Kill the training cluster's postmaster as a crash would; return its port."""
    assert local(folder, "start").returncode == 0
    port, pid = running(folder)["training"]
    os.kill(pid, signal.SIGKILL)
    # Its children hold the port until they have noticed.
    assert processes.wait_until(lambda: processes.is_free(port), 10)
    return port


@contextlib.contextmanager
def foreign_process() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "600"]) as foreign:
        try:
            yield foreign
        finally:
            foreign.kill()


@contextlib.contextmanager
def state_folder() -> Iterator[pathlib.Path]:
    """A folder that the server user can enter: pytest's own is closed to others."""
    parent = pathlib.Path(tempfile.mkdtemp(prefix="it's local "))
    parent.chmod(0o711)
    try:
        yield parent / "state"
    finally:
        local(parent / "state", "stop")
        shutil.rmtree(parent)


@pytest.fixture(scope="module")
def started() -> Iterator[pathlib.Path]:
    with state_folder() as folder:
        completed = local(folder, "start")
        assert completed.returncode == 0, completed.stderr
        yield folder


def running(folder: pathlib.Path) -> dict[str, tuple[int, int]]:
    """Port and process of each server that runs."""
    lines = [line.split() for line in local(folder, "status").stdout.splitlines()]
    return {line[0]: (int(line[2].rpartition(":")[2]), int(line[4])) for line in lines if line[1] == "running"}


def mode(path: pathlib.Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.servers
class TestServers:
    def test_start_again_changes_nothing(self, started):
        before = running(started)
        assert set(before) == set(SERVERS)
        assert local(started, "start").returncode == 0
        assert running(started) == before

    def test_mlflow_has_an_address_that_a_browser_opens(self, started):
        port = running(started)["mlflow"][0]
        assert f" http://127.0.0.1:{port} " in local(started, "status").stdout
        assert local(started, "next").stdout.splitlines()[-1].startswith(f"MLflow: http://127.0.0.1:{port}")
        assert answered(port, "/") == 200

    def test_modes(self, started):
        assert mode(started) == (0o700 if os.geteuid() else 0o711)
        assert mode(started / "bindings") == 0o700
        assert mode(started / "authority") == 0o700
        files = [path for path in (started / "bindings").rglob("*") if path.is_file()]
        keys = [started / "authority" / "ca.key", started / "training" / "server.key"]
        secrets = [*files, *keys, started / "state.json"]
        assert {mode(path) for path in secrets} == {0o600}
        for name in SERVERS:
            assert mode(started / name / "data") == 0o700
            assert (started / name / "data").stat().st_uid == processes.server_account().uid

    def test_bindings(self, started):
        folders = sorted(path.name for path in (started / "bindings").iterdir())
        assert folders == ["inference-app", "inference-deployer", "trainer", "training-deployer"]
        for folder in folders:
            keys = {path.name: path.read_text() for path in (started / "bindings" / folder).iterdir()}
            assert keys["type"] == "postgresql"
            assert keys["provider"] == "local"
            assert keys["sslmode"] == "verify-full"
            assert keys["port"] == str(running(started)[keys["database"]][0])
            assert keys["ca.crt"].startswith("-----BEGIN CERTIFICATE-----")
            assert not [key for key, value in keys.items() if key != "ca.crt" and value != value.strip()]

    @pytest.mark.parametrize("name", ["training-deployer", "trainer", "inference-deployer", "inference-app"])
    def test_each_binding_opens_its_database(self, started, name):
        statement = "SELECT current_user || ' ' || ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        user = (started / "bindings" / name / "username").read_text()
        assert query(started, name, statement) == f"{user} true"

    def test_nobody_gets_in_without_tls(self, started):
        completed = psql(started, "trainer", "SELECT 1", PGSSLMODE="disable")
        assert "no encryption" in completed.stderr

    def test_plpython_uses_the_locked_environment(self, started):
        function = (
            "CREATE FUNCTION pg_temp.prefix() RETURNS text LANGUAGE plpython3u AS 'import sys; return sys.prefix';"
        )
        for name, role in (("training", "training-db"), ("inference", "inference-db")):
            prefix = query(started, f"{name}-deployer", f"{function} SELECT pg_temp.prefix()")
            assert prefix == str(environments.environment(role))

    def test_servers_hold_nothing_of_the_callers_environment(self, started):
        function = """CREATE FUNCTION pg_temp.names() RETURNS text LANGUAGE plpython3u
                      AS 'import os; return " ".join(sorted(os.environ))';"""
        names = query(started, "training-deployer", f"{function} SELECT pg_temp.names()").split()
        assert not [name for name in names if name.startswith(("PIP_", "VIRTUAL_ENV", "PYTEST", "LOCAL_STATE"))]

    def test_passwords_are_in_no_log_and_on_no_command_line(self, started):
        passwords = json.loads((started / "state.json").read_text())["passwords"].values()
        text = " ".join((started / name / "log").read_text() for name in SERVERS)
        text += " ".join(" ".join(processes.command_line(int(pid))) for pid in os.listdir("/proc") if pid.isdigit())
        assert len(passwords) == 4
        assert not [password for password in passwords if password in text]

    def test_run_gives_bindings_and_programs(self, started):
        shown = local(started, "run", "--", "bash", "-c", "echo $SERVICE_BINDING_ROOT; which python liquibase").stdout
        python = environments.environment("pipeline") / "bin" / "python"
        assert shown.split("\n")[:3] == [
            str(started / "bindings"), str(python), str(environments.liquibase() / "liquibase")
        ]  # fmt: skip

    def test_run_leaves_what_a_person_has_set(self, started):
        own = {"SERVICE_BINDING_ROOT": "/elsewhere", "MLFLOW_TRACKING_URI": "http://elsewhere"}
        shown = local(started, "run", "bash", "-c", "echo $SERVICE_BINDING_ROOT $MLFLOW_TRACKING_URI", **own).stdout
        assert shown == "/elsewhere http://elsewhere\n"

    def test_killed_servers_are_started_again_with_their_data(self, started):
        query(started, "training-deployer", "CREATE TABLE IF NOT EXISTS kept (x int); SELECT 1")
        before = running(started)
        for _, pid in before.values():
            os.kill(pid, signal.SIGKILL)
        assert local(started, "start").returncode == 0
        after = running(started)
        assert set(after) == set(SERVERS)
        assert not {pid for _, pid in before.values()} & {pid for _, pid in after.values()}
        assert query(started, "training-deployer", "SELECT to_regclass('kept')") == "kept"

    def test_taken_port_gives_another_and_new_bindings(self, started):
        port = kill_training(started)
        with socket.create_server(("127.0.0.1", port)):
            assert local(started, "start").returncode == 0
        new = running(started)["training"][0]
        assert new != port
        assert (started / "bindings" / "trainer" / "port").read_text() == str(new)
        assert query(started, "trainer", "SELECT 1") == "1"

    def test_foreign_process_behind_a_stale_number_is_not_killed(self, started):
        kill_training(started)
        with foreign_process() as foreign:
            (started / "training" / "data" / "postmaster.pid").write_text(f"{foreign.pid}\n")
            assert local(started, "start").returncode == 0
            assert "training" in running(started)
            assert foreign.poll() is None

    def test_a_server_that_cannot_start_shows_its_log(self, started):
        kill_training(started)
        control = started / "training" / "data" / "global" / "pg_control"
        content = control.read_bytes()
        control.write_bytes(b"")
        try:
            completed = local(started, "start")
            assert completed.returncode == 1
            assert "the training server ended with status" in completed.stderr
            assert "pg_control" in completed.stderr
            assert "Traceback" not in completed.stderr
        finally:
            control.write_bytes(content)
        assert local(started, "start").returncode == 0

    def test_two_starts_at_once(self, started):
        kill_training(started)
        command = [sys.executable, "-m", "local", "start"]
        both = [subprocess.Popen(command, cwd=ROOT, env=variables(started), stderr=subprocess.PIPE) for _ in range(2)]
        assert b"waiting" in b"".join(start.communicate()[1] for start in both)
        assert [start.returncode for start in both] == [0, 0]
        assert len(processes.find(lambda command: f"{started}/training/data" in command)) == 1

    def test_stop_removes_everything(self):
        with state_folder() as folder:
            assert local(folder, "start").returncode == 0
            (folder / "state.json").write_text("damaged")
            (folder / "training" / "data" / "postmaster.pid").unlink()
            completed = local(folder, "stop")
            assert completed.returncode == 0, completed.stderr
            assert all(name in completed.stderr for name in SERVERS)
            assert list(folder.parent.iterdir()) == []


@pytest.mark.servers
class TestServe:
    def test_serves_until_interrupted(self, started):
        with serving(started) as (process, addresses, log):
            assert list(addresses) == SERVICES
            assert [answered(addresses["API"], "/healthz"), answered(addresses["API"], "/docs")] == [200, 200]
            assert [answered(addresses[name], "/") for name in SERVICES[1:]] == [200] * len(SERVICES[1:])
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0, log.read_text()
            assert all(processes.is_free(port) for port in addresses.values())
            assert "Traceback" not in log.read_text()

    def test_taken_ports_give_others(self, started):
        with contextlib.ExitStack() as stack:
            for port in (port for port in (8000, 8501) if processes.is_free(port)):
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
            _, addresses, _ = stack.enter_context(serving(started))
            assert not {8000, 8501} & set(addresses.values())
            assert answered(addresses["API"], "/healthz") == 200

    @pytest.mark.parametrize("name", SERVICES)
    def test_one_that_dies_ends_all(self, started, name):
        with serving(started) as (process, addresses, log):
            (pid,) = processes.find(lambda command: str(addresses[name]) in command)
            os.kill(pid, signal.SIGKILL)
            assert process.wait(30) == 1
            assert log.read_text().endswith(f"local: the {name} ended with status -9: its output is above\n")
            assert all(processes.is_free(port) for port in addresses.values())

    def test_starts_nothing_local_with_a_persons_bindings(self, tmp_path):
        (tmp_path / "bindings").mkdir()
        completed = local(tmp_path / "state", "serve", SERVICE_BINDING_ROOT=str(tmp_path / "bindings"))
        assert completed.returncode == 1
        assert "bindings holds no folder inference-app" in completed.stderr
        # Both lack it, and either may be the first to say so.
        assert re.search(r"local: the (API|page) ended with status 1: its output is above\n$", completed.stderr)
        assert not (tmp_path / "state").exists()


@contextlib.contextmanager
def serving(folder: pathlib.Path) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, int], pathlib.Path]]:
    """Run `python -m local serve`; yield its process, the port of each service, and what it prints."""
    log = folder.parent / "serve.log"
    with open(log, "wb") as output:
        command = [sys.executable, "-m", "local", "serve"]
        process = subprocess.Popen(command, cwd=ROOT, env=variables(folder), stdout=output, stderr=output)

    def ports() -> dict[str, int]:
        addresses = re.findall(r"^(API|page) +http://127\.0\.0\.1:(\d+)$", log.read_text(), re.MULTILINE)
        return {name: int(port) for name, port in addresses}

    try:
        # The environment may have to be installed first.
        ready = processes.wait_until(lambda: len(ports()) == len(SERVICES), 600, lambda: process.poll() is not None)
        assert ready, log.read_text()
        yield process, dict(sorted(ports().items())), log
    finally:
        process.terminate()
        process.wait(30)
        log.unlink()


def answered(port: int, path: str) -> int:
    """Return the status of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", path)
        return connection.getresponse().status


def psql(folder: pathlib.Path, name: str, statement: str, **more: str) -> subprocess.CompletedProcess[str]:
    keys = {path.name: path.read_text() for path in (folder / "bindings" / name).iterdir()}
    environment = {
        "PGHOST": keys["host"], "PGPORT": keys["port"], "PGDATABASE": keys["database"],
        "PGUSER": keys["username"], "PGPASSWORD": keys["password"],
        "PGSSLMODE": keys["sslmode"], "PGSSLROOTCERT": str(folder / "bindings" / name / "ca.crt"), **more,
    }  # fmt: skip
    version = packages.installed_postgresql()
    assert version
    program = packages.programs(version) / "psql"
    return subprocess.run([program, "-XqAt", "-c", statement], env=environment, capture_output=True, text=True)


def query(folder: pathlib.Path, name: str, statement: str) -> str:
    completed = psql(folder, name, statement)
    assert completed.returncode == 0, completed.stderr
    return completed.stdout.strip()


class TestWithoutServers:
    def test_stop_where_nothing_is(self):
        with state_folder() as folder:
            assert local(folder, "stop").returncode == 0
            folder.mkdir()
            assert local(folder, "stop").returncode == 0
            assert not folder.exists()

    def test_stop_does_not_believe_a_stale_number(self):
        with state_folder() as folder, foreign_process() as foreign:
            (folder / "training" / "data").mkdir(parents=True)
            (folder / "training" / "data" / "postmaster.pid").write_text(f"{foreign.pid}\n")
            (folder / "state.json").write_text("{}")
            assert local(folder, "stop").returncode == 0
            assert foreign.poll() is None
            assert not folder.exists()

    @pytest.mark.parametrize("command", ["start", "stop"])
    def test_a_folder_with_other_files_is_left_alone(self, command):
        with state_folder() as folder:
            (folder / "training").mkdir(parents=True)
            (folder / "training" / "mine").touch()
            completed = local(folder, command)
            assert completed.returncode == 1
            assert "set LOCAL_STATE" in completed.stderr
            assert (folder / "training" / "mine").exists()

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            ([], "COMMAND"),
            (["nonsense"], "invalid choice"),
            (["run"], "give a command"),
            (["path", "nonsense"], "roles with a lock file"),
            (["run", "--no-servers", "no-such-command"], "no command no-such-command"),
        ],
    )
    def test_mistakes_are_one_sentence(self, tmp_path, arguments, sentence):
        completed = local(tmp_path, *arguments)
        assert completed.returncode == 1
        assert sentence in completed.stderr
        assert len(completed.stderr.splitlines()) == 1

    def test_a_user_without_an_entry_is_told_at_once(self, monkeypatch):
        processes.server_account.cache_clear()
        monkeypatch.setattr(os, "geteuid", lambda: 54321)
        with pytest.raises(LocalError, match=r"^the user 54321 has no entry in /etc/passwd"):
            startup.start(["training"], [])

    def test_location(self, monkeypatch, tmp_path):
        monkeypatch.setenv("LOCAL_STATE", str(tmp_path))
        assert state.location() == tmp_path
        monkeypatch.delenv("LOCAL_STATE")
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        assert state.location() == ROOT / ".local"
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        assert state.location().parent == pathlib.Path("/var/lib/in-database-ml")

    def test_ports(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            assert not processes.is_free(port)
            assert processes.free_port(port) != port
        assert processes.free_port(port) == port

    def test_a_command_line_that_only_speaks_of_a_server_is_not_one(self, tmp_path):
        folder = state.State(tmp_path)
        cluster, mlflow = Cluster("trainer", "training", folder, None), MlflowServer("mlflow", folder, tmp_path)
        assert cluster.is_one(["/usr/lib/postgresql/15/bin/postgres", "-D", str(cluster.data), "-c", cluster._config])
        assert not cluster.is_one(["tail", "-f", cluster._config])
        assert not cluster.is_one(["postgres: checkpointer "])
        assert mlflow.is_one(list(mlflow.command()))
        assert not mlflow.is_one(["vi", str(mlflow.folder)])
