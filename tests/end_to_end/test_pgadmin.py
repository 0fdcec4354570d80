"""The real pgAdmin with both databases in its list, which connects without asking for a password."""

import contextlib
import html
import http.cookiejar
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from .project import LOCAL, Project
from .servers import wait_until

EMAIL, LOGIN = "admin@example.com", 'lo:g"in \\ 1'
PROGRAM = ("run", "--environment", "pgadmin", "--", "python", "-m")


@pytest.fixture(scope="module")
def project(default_project: Project, work: Path) -> Project:
    """A project with pgAdmin, on the servers of all tests."""
    parent = work / "with-pgadmin"
    parent.mkdir()
    return Project.generate(parent, default_project.servers, includePgadmin="true")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Browser:
    """A session of pgAdmin's own pages."""

    def __init__(self, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}"
        self.token = ""
        jar = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), jar)

    def answer(self, path: str, data: bytes | None = None) -> str:
        """Return the answer; a form or a call is posted with the page's token."""
        request = urllib.request.Request(self.address + path, data)  # noqa: S310 - this machine's
        request.add_header("X-pgA-CSRFToken", self.token)
        with self.opener.open(request, timeout=60) as response:
            return response.read().decode()

    def is_there(self) -> bool:
        with contextlib.suppress(OSError):
            return self.answer("/misc/ping") == "PING"
        return False

    def log_in(self, password: str) -> str:
        """Submit the login form and return the next page."""
        self.token = html.unescape(re.search(r'csrfToken["\']?\s*[:=]\s*["\']([^"\']+)', self.answer("/login"))[1])
        form = {"email": EMAIL, "password": password, "csrf_token": self.token, "internal_button": "Login"}
        return self.answer("/authenticate/login", urllib.parse.urlencode(form).encode())

    def read_token(self) -> None:
        """Store the token that the main page's calls carry."""
        self.token = re.search(r"csrf_token'?\]?\s*=\s*'([^']+)'", self.answer("/browser/js/utils.js"))[1]

    def connect(self, group: int, server: int) -> dict[str, Any]:
        """Ask pgAdmin to connect to a server of its list, without a password."""
        return json.loads(self.answer(f"/browser/server/connect/{group}/{server}", b"{}"))


@contextlib.contextmanager
def running(project: Project, image: "Image | None" = None) -> Iterator[Browser]:
    """Start pgAdmin, as a person or its image does, and stop it after the block."""
    port = free_port()
    log = project.folder.parent / "pgadmin.log"
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            image.command if image else [*LOCAL, *PROGRAM, "pgadmin"],
            cwd=image.folder if image else project.folder,
            env={**(image.environment if image else project.environment), "PORT": str(port)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    browser = Browser(port)
    try:
        wait_until(lambda: browser.is_there() or process.poll() is not None, 180, "pgAdmin")
        assert process.poll() is None, log.read_text(encoding="utf-8")
        yield browser
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)
        project.servers.outputs.append(log.read_text(encoding="utf-8"))


class Image:
    """The contents of pgAdmin's image on this machine, run by a user who owns no file, with a Workload's variables."""

    def __init__(self, project: Project, folder: Path) -> None:
        self.folder = folder / "project"
        self.data = folder / "data"
        self.dockerfile = (project.folder / "deploy" / "images" / "pgadmin.Dockerfile").read_text(encoding="utf-8")
        for sources, target in re.findall(r"^COPY (?!--)(.+) /opt/project/(.*)$", self.dockerfile, re.MULTILINE):
            (self.folder / target).mkdir(parents=True, exist_ok=True)
            for source in sources.split():
                shutil.copy(project.folder / source, self.folder / target)
        self.data.mkdir()
        self.python = project.local("path", "pgadmin").stdout.strip() + "/bin/python"
        self.environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(self.data),
            "PGADMIN_DATA": str(self.data / "kept"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PGADMIN_SETUP_EMAIL": EMAIL,
            "PGADMIN_SETUP_PASSWORD": LOGIN,
        }
        for role in ("trainer", "inference-app"):
            for key, value in project.servers.binding(role).items():
                name = f"binding_{role}_{key}".upper().replace("-", "_").replace(".", "_")
                self.environment[name] = value

    @property
    def command(self) -> list[str]:
        """Return the image's command, run as its user if this process may change users."""
        (user,) = re.findall(r"^USER (.+)$", self.dockerfile, re.MULTILINE)
        (command,) = re.findall(r"^CMD (.+)$", self.dockerfile, re.MULTILINE)
        program = [self.python, *json.loads(command)[1:]]
        if os.geteuid():
            return program
        uid, gid = user.split(":")
        shutil.chown(self.data, int(uid), int(gid))
        return ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--no-new-privs", *program]


def saved(database: Path) -> list[tuple[Any, ...]]:
    """Return the servers in pgAdmin's database."""
    with contextlib.closing(sqlite3.connect(database)) as opened:
        return opened.execute(
            "SELECT g.name, s.name, host, port, maintenance_db, username, connection_params, tags, password "
            "FROM server AS s JOIN servergroup AS g ON g.id = s.servergroup_id ORDER BY s.id"
        ).fetchall()


@pytest.fixture(scope="module")
def desktop(project: Project) -> Iterator[Browser]:
    """pgAdmin for this machine's user."""
    with running(project) as browser:
        yield browser


@pytest.fixture(scope="module")
def data(project: Project, desktop: Browser) -> Path:
    """The folder of its data."""
    return project.folder / "pgadmin" / "data"


def test_its_servers_are_those_of_the_bindings(project: Project, data: Path) -> None:
    """pgAdmin's own database holds the servers that pgAdmin has imported."""
    rows = saved(data / "pgadmin4.db")
    assert len(rows) == 2
    expected = {"Training": "trainer", "Inference": "inference-app"}
    for (title, role), row in zip(expected.items(), rows, strict=True):
        keys = project.servers.binding(role)
        group, name, host, port, database, user, parameters, tags, password = row
        assert group == f"Server Group {title} image-classifier"
        assert name == f"{title} image-classifier"
        assert (host, port, database, user) == (keys["host"], int(keys["port"]), keys["database"], keys["username"])
        assert password is None
        options = json.loads(parameters)
        assert options["sslmode"] == "verify-full"
        assert Path(options["sslrootcert"]).read_text().strip() == keys["ca.crt"]
        assert options["passfile"] == str(data / "passfile")
        assert {tag["text"] for tag in json.loads(tags)} == {title.lower(), "postgresql"}


def test_pgadmins_own_dump_is_the_list_that_it_was_given(project: Project, data: Path, tmp_path: Path) -> None:
    """pgAdmin's command line exports the servers field by field as it has imported them."""
    variables = {"PGADMIN_DATA": str(data), "PGADMIN_SERVER_MODE": "OFF", "PORT": "0"}
    variables["CONFIG_DISTRO_FILE_PATH"] = str(project.folder / "pgadmin" / "config_distro.py")
    dumped = tmp_path / "dumped.json"
    project.local(*PROGRAM[:-2], "pgadmin4-cli", "dump-servers", str(dumped), **variables)
    imported = json.loads((data / "servers.json").read_text())["Servers"]
    dumped_servers = json.loads(dumped.read_text())["Servers"]
    assert len(dumped_servers) == len(imported) == 2
    for number, server in imported.items():
        assert {key: dumped_servers[number].get(key) for key in server} == server


def test_only_its_owner_reads_what_it_keeps_and_no_password_is_in_the_list(project: Project, data: Path) -> None:
    assert data.stat().st_mode & 0o777 == 0o700
    for path in data.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path
    listed = (data / "servers.json").read_text()
    passfile = (data / "passfile").read_text()
    for password in (project.servers.binding(role)["password"] for role in ("trainer", "inference-app")):
        assert password not in listed
        assert password in passfile
    ignored = subprocess.run(
        ["git", "-c", "core.excludesFile=/dev/null", "check-ignore", "--no-index", "pgadmin/data/passfile"],
        cwd=git_folder(project), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ignored.returncode == 0


def git_folder(project: Project) -> Path:
    """Return the project as a git repository."""
    subprocess.run(["git", "init", "--quiet"], cwd=project.folder, check=True)
    return project.folder


def test_the_passfile_is_enough_for_libpq(data: Path) -> None:
    """Each server in the list is reached with the list's parameters and no password from elsewhere."""
    for server in json.loads((data / "servers.json").read_text())["Servers"].values():
        connection = psycopg2.connect(
            host=server["Host"],
            port=server["Port"],
            dbname=server["MaintenanceDB"],
            user=server["Username"],
            **server["ConnectionParameters"],
        )
        with contextlib.closing(connection), connection.cursor() as cursor:
            cursor.execute("SELECT session_user")
            assert cursor.fetchone() == (server["Username"],)


def test_a_second_start_loads_nothing_twice(project: Project, data: Path, desktop: Browser) -> None:
    with running(project):
        assert len(saved(data / "pgadmin4.db")) == 2


def test_others_log_in_and_both_databases_answer(project: Project, desktop: Browser, work: Path) -> None:
    """In server mode the login is pgAdmin's, and the databases' passwords come from the passfile."""
    place = work / "pgadmin-image"
    image = Image(project, place)
    with running(project, image) as browser:
        assert "/login" in browser.opener.open(browser.address + "/browser/", timeout=60).url
        browser.log_in("another password")
        with pytest.raises(urllib.error.HTTPError):
            browser.connect(2, 1)
        browser.log_in(LOGIN)
        browser.read_token()
        passfile = image.data / "kept" / "storage" / "admin_example.com" / "passfile"
        assert passfile.stat().st_mode & 0o777 == 0o600
        aside = passfile.rename(passfile.with_name("aside"))
        with pytest.raises(urllib.error.HTTPError):
            browser.connect(2, 1)
        aside.rename(passfile)
        for group, server, user in ((2, 1, "trainer"), (3, 2, "app")):
            answer = browser.connect(group, server)
            assert answer["info"] == "Server connected."
            assert answer["data"]["user"]["name"] == user
            assert answer["data"]["user"]["is_superuser"] is False
    (log,) = [output for output in project.servers.outputs if "gunicorn" in output][-1:]
    assert LOGIN not in log


HOSTILE = r"p:a\ss::w\\rd'\" $HOME"


def test_colons_and_backslashes_are_escaped(project: Project, tmp_path: Path) -> None:
    """On a real server with a role, a password and a database that contain both characters."""
    role, database = r"ro:le\x", r"da:ta\x"
    bindings = tmp_path / "bindings"
    for name in ("trainer", "inference-app"):
        (bindings / name).mkdir(parents=True)
        for key, value in project.servers.binding(name).items():
            (bindings / name / key).write_text(value)
    for key, value in {"username": role, "password": HOSTILE, "database": database}.items():
        (bindings / "trainer" / key).write_text(value)
    with contextlib.closing(project.servers.connect("training-deployer")) as connection:
        deployer = connection.cursor()
        deployer.execute(f'CREATE ROLE "{role}" LOGIN PASSWORD %s', (HOSTILE,))
        deployer.execute(f'CREATE DATABASE "{database}" OWNER "{role}"')
        try:
            project.local(*PROGRAM, "pgadmin.servers", str(tmp_path / "out"), SERVICE_BINDING_ROOT=str(bindings))
            (server, _) = json.loads((tmp_path / "out" / "servers.json").read_text())["Servers"].values()
            connection = psycopg2.connect(
                host=server["Host"], port=server["Port"], dbname=database, user=role, **server["ConnectionParameters"]
            )
            with contextlib.closing(connection), connection.cursor() as cursor:
                cursor.execute("SELECT session_user, current_database()")
                assert cursor.fetchone() == (role, database)
        finally:
            deployer.execute(f'DROP DATABASE "{database}"')
            deployer.execute(f'DROP ROLE "{role}"')


def test_a_mistake_is_one_sentence_and_nothing_is_written(project: Project, tmp_path: Path) -> None:
    bindings = tmp_path / "bindings"
    for name in ("trainer", "inference-app"):
        (bindings / name).mkdir(parents=True)
        for key, value in project.servers.binding(name).items():
            (bindings / name / key).write_text(value)
    out = tmp_path / "out"

    def refuses(*arguments: str, **variables: str) -> str:
        environment = {"SERVICE_BINDING_ROOT": str(bindings), **variables}
        process = project.local(*PROGRAM, *arguments, status=1, **environment)
        (sentence,) = process.stderr.strip().splitlines()
        assert sentence.startswith("error: ")
        assert not out.exists()
        return sentence

    assert "SERVICE_BINDING_ROOT" in refuses("pgadmin.servers", str(out), SERVICE_BINDING_ROOT=str(tmp_path / "no"))
    (bindings / "trainer" / "port").write_text("five")
    assert "'five'; allowed is 1 to 65535" in refuses("pgadmin.servers", str(out))
    (bindings / "trainer" / "port").write_text("5432")
    (bindings / "trainer" / "password").write_text("a\nb")
    assert "line break" in refuses("pgadmin.servers", str(out))
    (bindings / "trainer" / "password").unlink()
    assert "lacks password" in refuses("pgadmin.servers", str(out))
    assert "PGADMIN_SETUP_EMAIL and PGADMIN_SETUP_PASSWORD must be set" in refuses("pgadmin", "serve")
    assert "allowed is no argument, or serve" in refuses("pgadmin", "server")
