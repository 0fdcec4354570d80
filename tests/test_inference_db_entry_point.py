"""The entry point of the inference database's image, run with this machine's PostgreSQL."""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest
from conftest import BODY, in_body

PASSWORD = "a 'long' pass\\word"  # noqa: S105 - of a server that a test starts and stops


class Server:
    """A server that the entry point starts: its folder, environment variables and process."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder = folder
        self.data = folder / "volume" / "15" / "data"
        self.log = folder / "log"
        # The server's user can read this folder, but maybe not the repository.
        self.program = shutil.copy(in_body("deploy/images/inference-db.sh"), folder)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.variables = {
            "PATH": f"{programs}:/usr/bin:/bin",
            "PGDATA": str(self.data),
            "POSTGRES_USER_FILE": self.file("username", "deployer\n"),
            "POSTGRES_PASSWORD_FILE": self.file("password", f"{PASSWORD}\n"),
            "POSTGRES_DB_FILE": self.file("database", "image-classifier"),
        }
        self.process: subprocess.Popen[bytes] | None = None

    def file(self, name: str, content: str) -> str:
        """Write a file that only the server's user may read; return its path."""
        path = self.folder / name
        path.write_text(content, encoding="utf-8")
        path.chmod(0o400)
        self.give(path)
        return str(path)

    def give(self, path: Path) -> None:
        """Make the server's user the owner of a path."""
        if not os.geteuid():
            shutil.chown(path, account(), account())

    def start(self, *arguments: str) -> None:
        """Start the server and wait until it accepts connections or exits."""
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [self.program, "-p", str(self.port), "-c", "fsync=off", *arguments],
                env=self.variables, cwd="/", stdout=log, stderr=log, start_new_session=True,
                **({} if os.geteuid() else {"user": account(), "group": account(), "extra_groups": []}),
            )  # fmt: skip
        deadline = time.monotonic() + 30
        while self.process.poll() is None and time.monotonic() < deadline:
            if b"ready to accept connections" in self.log.read_bytes():
                return
            time.sleep(0.05)

    def refusal(self, *arguments: str) -> str:
        """Start the server, expect it to exit with status 1, and return its last line."""
        self.start(*arguments)
        assert self.process is not None
        assert self.process.wait(10) == 1
        return self.log.read_text(encoding="utf-8").splitlines()[-1]

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Send a signal and return the exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(10)

    def kill(self) -> None:
        """Kill the processes that remain."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    @contextlib.contextmanager
    def session(self, sslmode: str = "prefer", password: str = PASSWORD) -> Iterator[psycopg2.extensions.cursor]:
        """Open a session over TCP, as an app does."""
        connection = psycopg2.connect(
            host="127.0.0.1", port=self.port, user="deployer", password=password, dbname="image-classifier",
            sslmode=sslmode,
        )  # fmt: skip
        try:
            with connection.cursor() as cursor:
                yield cursor
                connection.commit()
        finally:
            connection.close()


def account() -> str:
    """Return the user that the server runs as: PostgreSQL refuses root."""
    return "postgres" if not os.geteuid() else pwd.getpwuid(os.geteuid()).pw_name


@pytest.fixture(name="server")
def _server() -> Iterator[Server]:
    """A server with an empty volume, killed and removed after the test."""
    install = ["/usr/bin/python3", "-m", "local", "install", "--packages"]
    completed = subprocess.run(install, cwd=BODY, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}, check=False)
    assert completed.returncode == 0
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    # Only the current user may enter pytest's temporary folders.
    with tempfile.TemporaryDirectory(prefix="inference-db-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        (folder / "volume").mkdir()
        server = Server(folder, programs)
        server.give(folder / "volume")
        try:
            yield server
        finally:
            server.kill()


@pytest.mark.slow
def test_the_first_start_creates_the_database(server: Server) -> None:
    """It has PL/Python, asks the superuser for a password and logs none of it; the second start keeps the data."""
    server.start()
    with server.session() as cursor:
        cursor.execute("SELECT extname FROM pg_extension WHERE extname = 'plpython3u'")
        assert cursor.fetchall() == [("plpython3u",)]
        cursor.execute("CREATE TABLE kept AS SELECT 7 AS x")
    with (
        pytest.raises(psycopg2.OperationalError, match="password authentication failed"),
        server.session("prefer", "x"),
    ):
        pass
    log = server.log.read_text(encoding="utf-8")
    # The server does not wait for connected clients.
    with pytest.raises(psycopg2.OperationalError), server.session() as cursor:
        assert server.stop() == 0
        cursor.execute("SELECT 1")
    server.start("-c", "max_connections=33")
    with server.session() as cursor:
        cursor.execute("SELECT x, current_setting('max_connections') FROM kept")
        assert cursor.fetchall() == [(7, "33")]
    assert PASSWORD not in log + server.log.read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_certificate_makes_tls_mandatory(server: Server) -> None:
    key, certificate = server.folder / "tls.key", server.folder / "tls.crt"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost",
         "-keyout", key, "-out", certificate],
        capture_output=True, check=True,
    )  # fmt: skip
    server.give(key)
    server.variables |= {"TLS_KEY_FILE": str(key), "TLS_CERTIFICATE_FILE": str(certificate)}
    server.start()
    with server.session("require") as cursor:
        cursor.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        assert cursor.fetchall() == [(True,)]
    with pytest.raises(psycopg2.OperationalError, match="no encryption"), server.session("disable"):
        pass


@pytest.mark.slow
def test_an_unfinished_data_folder_is_replaced(server: Server) -> None:
    """A start that was killed leaves such a folder; the next start does not use it."""
    left = server.data.with_name("data.unfinished")
    left.mkdir(parents=True)
    (left / "PG_VERSION").write_text("15", encoding="ascii")
    server.give(left.parent)
    server.give(left)
    server.start()
    with server.session():
        assert not left.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("POSTGRES_USER_FILE", "", "POSTGRES_USER_FILE is not set: it names a file"),
        ("POSTGRES_PASSWORD_FILE", "/nowhere", "POSTGRES_PASSWORD_FILE is /nowhere, where there is no file that"),
        ("POSTGRES_DB_FILE", "/dev/null", "POSTGRES_DB_FILE is /dev/null, where there is no file that"),
        ("POSTGRES_DB", 'a"; DROP', "the database is called 'a\"; DROP'; allowed are letters, digits, _ and -"),
        ("TLS_KEY_FILE", "/etc/passwd", "TLS_CERTIFICATE_FILE is not set: it names a file"),
    ],
)
def test_a_wrong_variable_is_reported_in_one_line(server: Server, variable: str, value: str, reason: str) -> None:
    """The entry point exits before PostgreSQL listens."""
    server.variables[variable] = value
    message = server.refusal()
    assert message.startswith(f"inference-db: {reason}"), message
