"""The images: what they are made from, what they keep, as whom they run; and the inference database's entry point."""

import ast
import contextlib
import json
import os
import pwd
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import psycopg2
import pytest
from conftest import BODY, in_body, in_project

NAMES = ("app", "inference-db", "mlflow", "notebook", "pgadmin", "pipeline")
# What has a .dockerignore of its own, for it is not in every project.
ALONE = ("pgadmin",)
NOBODY = "10001:10001"
# Whose home a person's server of JupyterHub has; in the others a home is where everybody may write.
PERSON, PERSONS_HOME = "1000:100", "/home/jovyan"
PASSWORD = "a 'long' pass\\word"  # noqa: S105 - of a server that a test starts and ends
# What fetches or makes something: it is needed while an image is built, and by nobody afterwards.
MAKERS = {"build-essential", "curl", "gcc", "make", "npm", "python3-pip", "python3-venv", "wget"}


@dataclass(frozen=True)
class Instruction:
    """One instruction of a Dockerfile, and the stage it stands in; those before the first stage are in none."""

    stage: str
    name: str
    text: str

    @property
    def words(self) -> list[str]:
        """The text's words."""
        return self.text.split()


def instructions(image: str) -> list[Instruction]:
    """Return an image's instructions; its last stage is called `image`."""
    text = in_body(f"deploy/images/{image}.Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    found, stage = [], ""
    for line in re.sub(r"\\\n\s*", " ", "\n".join(lines)).splitlines():
        name, _, rest = line.partition(" ")
        if name == "FROM":
            stage = rest.partition(" AS ")[2] or "image"
        found.append(Instruction(stage, name, rest))
    return found


def named(image: str, name: str, stage: str = "") -> list[Instruction]:
    """An image's instructions of one name."""
    return [each for each in instructions(image) if each.name == name and stage in ("", each.stage)]


def variables(image: str) -> dict[str, str]:
    """The environment that an image gives."""
    return dict(word.split("=", 1) for each in named(image, "ENV", "image") for word in shlex.split(each.text))


def hadolint(*files: Path) -> subprocess.CompletedProcess[str]:
    """Run the linter of Dockerfiles."""
    program = Path(sys.executable).parent / "hadolint"
    assert program.exists(), "hadolint is missing in this Python environment: run `make .venv`"
    return subprocess.run([program, "--no-color", *files], capture_output=True, text=True, check=False)


def test_these_are_the_images() -> None:
    """Each is checked below."""
    assert sorted(path.stem for path in BODY.rglob("deploy/images/*.Dockerfile")) == sorted(NAMES)


@pytest.mark.parametrize("image", NAMES)
def test_hadolint_has_nothing_against_it(image: str) -> None:
    """Nor is it told to overlook anything but the missing versions of Debian's packages."""
    file = in_body(f"deploy/images/{image}.Dockerfile")
    done = hadolint(file)
    assert done.returncode == 0, done.stdout + done.stderr
    ignored = re.findall(r"hadolint ignore=(\S+)", file.read_text(encoding="utf-8"))
    assert set(ignored) == {"DL3008"}
    assert len(ignored) == sum("apt-get install" in each.text for each in named(image, "RUN"))


def test_hadolint_looks(tmp_path: Path) -> None:
    """It would say something."""
    given = in_body("deploy/images/app.Dockerfile").read_text(encoding="utf-8")
    (tmp_path / "Dockerfile").write_text(given.replace(" --no-install-recommends", ""), encoding="utf-8")
    done = hadolint(tmp_path / "Dockerfile")
    assert done.returncode != 0
    assert "DL3015" in done.stdout


@pytest.mark.parametrize("folder", [BODY.parent, BODY], ids=["repository", "project"])
def test_a_devcontainer_has_the_packages_that_a_project_installs(folder: Path) -> None:
    """It stands on the images' base, works as a person with sudo, and downloads no feature from a registry."""
    file = folder / ".devcontainer" / "Dockerfile"
    done = hadolint(file)
    assert done.returncode == 0, done.stdout + done.stderr
    text = file.read_text(encoding="utf-8")
    assert re.findall(r"^ARG BASE=(\S+)$", text, re.MULTILINE) == [
        each.text.removeprefix("BASE=") for each in named(NAMES[0], "ARG")
    ]
    needed = re.findall(r'^        "([\w-]+)": ', (BODY / "local" / "packages.py").read_text(encoding="utf-8"), re.M)
    assert "default-jre-headless" in needed
    packages = re.sub(r"\\\n\s*", "", text).partition("apt-get install ")[2].partition(" && ")[0].split()
    assert {*needed, "git", "make", "postgresql-15", "postgresql-plpython3-15", "python3", "sudo"} <= set(packages)
    assert re.findall(r"^USER (\S+)$", text, re.MULTILINE) == ["1000:1000"]
    settings = json.loads((folder / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
    assert f"useradd --uid 1000 --create-home --shell /bin/bash {settings['remoteUser']} " in text
    assert settings["build"] == {"dockerfile": "Dockerfile"}
    assert "features" not in settings
    target = settings["postCreateCommand"].removeprefix("make ")
    assert re.search(rf"^{re.escape(target)}:.*##", (folder / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("image", NAMES)
def test_the_base_is_pinned_and_may_be_another(image: str) -> None:
    """One release of one distribution for all of them; a stage is based on it or on another stage."""
    (base,) = [each.text.removeprefix("BASE=") for each in named(image, "ARG")]
    assert re.fullmatch(r"docker\.io/library/debian:12\.\d+-slim(@sha256:[0-9a-f]{64})?", base)
    assert base == named(NAMES[0], "ARG")[0].text.removeprefix("BASE=")
    stages = {"${BASE}"}
    for each in named(image, "FROM"):
        assert each.words[0] in stages, each.text
        stages.add(each.stage)


@pytest.mark.parametrize("image", NAMES)
def test_it_runs_as_nobody_in_particular(image: str) -> None:
    """No root, and no user who owns what the image holds."""
    users = named(image, "USER")
    assert [(each.stage, each.text) for each in users] == [("image", PERSON if image == "notebook" else NOBODY)]
    copies = named(image, "COPY", "image")
    assert copies
    assert not any("--chown" in each.text or "--chmod" in each.text for each in copies)


@pytest.mark.parametrize("image", NAMES)
def test_it_keeps_nothing_of_its_making(image: str) -> None:
    """Neither installers nor package lists nor caches; what was made is copied into it."""
    assert not named(image, "RUN", "image")
    (parent,) = named(image, "FROM", "image")
    for each in named(image, "RUN"):
        installs = "apt-get install" in each.text
        assert "rm -rf /var/lib/apt/lists/*" in each.text or not installs
        assert not MAKERS & set(each.words) or each.stage != parent.words[0], each.text


@pytest.mark.parametrize("image", NAMES)
def test_everything_in_it_is_locked(image: str) -> None:
    """What does not come from Debian comes from a lock file, with hashes, and nothing from an address."""
    assert not named(image, "ADD")
    text = in_body(f"deploy/images/{image}.Dockerfile").read_text(encoding="utf-8")
    assert not re.search(r"\w://|--(extra-)?index-url|--registry|--find-links|--trusted-host|_TOKEN|PASSWORD", text)
    fetching = [each.text for each in named(image, "RUN") if re.search(r"\b(pip|npm) (?!\|)", each.text)]
    pips = [text for text in fetching if "install --no-cache-dir --no-deps --require-hashes --compile" in text]
    assert len(pips) == 1
    for command in re.findall(r"npm \w+ --.*?&&", " ".join(fetching)):
        assert command.startswith("npm ci --prefix /build --ignore-scripts ")


def test_the_steps_are_told_the_lock_that_was_installed() -> None:
    """A step compares it with the lock of its checkout."""
    (copy,) = named("pipeline", "COPY", "environment")
    source, place = copy.words
    assert (source, place) == ("requirements/pipeline.txt", variables("pipeline")["ENVIRONMENT_LOCK"])
    (install,) = [each for each in named("pipeline", "RUN", "environment") if "--require-hashes" in each.text]
    assert f"--requirement {place} " in install.text
    folder = str(Path(place).parent)
    assert f"--from=environment {folder} {folder}" in [each.text for each in named("pipeline", "COPY", "image")]


def test_a_notebook_has_all_that_the_steps_ask_for() -> None:
    """It is told the pipeline's lock, which its own holds; it starts what JupyterHub waits for."""
    (copy,) = named("notebook", "COPY", "environment")
    assert copy.words == ["requirements/notebook.txt", "requirements/pipeline.txt", "/opt/environment/"]
    assert variables("notebook")["ENVIRONMENT_LOCK"] == "/opt/environment/pipeline.txt"
    (install,) = [each for each in named("notebook", "RUN", "environment") if "--require-hashes" in each.text]
    assert "--requirement /opt/environment/notebook.txt " in install.text
    (person,) = named("notebook", "RUN", "system")
    assert f"useradd --uid 1000 --gid users --home-dir {PERSONS_HOME} --create-home " in person.text
    assert " git " in person.text
    assert [each.text for each in named("notebook", "CMD", "image")] == ['["jupyterhub-singleuser"]']


@pytest.mark.parametrize("image", ["notebook", "pipeline"])
def test_the_variable_is_the_one_that_the_steps_read(image: str) -> None:
    """Its name is known to both sides alone."""
    module = ast.parse(in_body("pipeline/lock_file.py").read_text(encoding="utf-8"))
    assert constants(module)["LOCK"] in variables(image)


def constants(module: ast.Module) -> dict[str, object]:
    """The literals that a module gives names to."""
    found = {}
    for node in module.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            with contextlib.suppress(ValueError):
                found[node.targets[0].id] = ast.literal_eval(node.value)
    return found


def test_liquibase_is_the_same_as_on_a_laptop() -> None:
    """The same lock file, and the same parts of it are kept."""
    local = constants(ast.parse((BODY / "local" / "environments.py").read_text(encoding="utf-8")))
    (copy,) = named("pipeline", "COPY", "liquibase")
    assert copy.words[:-1] == ["local/package.json", "local/package-lock.json"]
    (run,) = [each.text for each in named("pipeline", "RUN", "liquibase") if "npm ci" in each.text]
    kept, jars = run.split("find internal/lib")
    assert sorted(re.findall(r"! -name (\S+)", kept)) == sorted(local["KEPT"])
    assert sorted(re.findall(r"! -name '(\S+)\*'", jars)) == sorted(local["JARS"])


def test_the_steps_find_their_programs() -> None:
    """The environment's Python comes before the system's; Liquibase has Java beside it."""
    path = variables("pipeline")["PATH"].split(":")
    assert path[:2] == ["/opt/environment/bin", "/opt/liquibase"]
    packages = " ".join(each.text for each in named("pipeline", "RUN", "system"))
    for package in ("ca-certificates", "default-jre-headless", "git", "python3"):
        assert f" {package} " in packages


@pytest.mark.parametrize("image", NAMES)
def test_a_read_only_file_system_is_enough(image: str) -> None:
    """Python writes no files beside its modules, and a home is where everybody may write."""
    given = variables(image)
    assert given["PYTHONDONTWRITEBYTECODE"] == "1"
    assert given["HOME"] == (PERSONS_HOME if image == "notebook" else "/tmp")  # noqa: S108 - the container's own


def test_the_inference_database_is_plain_debians() -> None:
    """PL/Python is told where the packages are; no key that everybody has lies in the image."""
    (made,) = named("inference-db", "RUN", "system")
    assert re.search(r" postgresql-15 postgresql-plpython3-15 ", made.text)
    assert "create_main_cluster = false" in made.text
    assert "/etc/ssl/private/ssl-cert-snakeoil.key" in made.text.partition("rm -rf")[2]
    given = variables("inference-db")
    assert given["PATH"].startswith("/usr/lib/postgresql/15/bin:")
    assert given["PYTHONEXECUTABLE"] == "/opt/environment/bin/python"
    (volume,) = named("inference-db", "VOLUME")
    assert given["PGDATA"].startswith(f"{ast.literal_eval(volume.text)[0]}/")
    # What PostgreSQL calls a smart shutdown, its answer to SIGTERM, waits for the last client.
    assert [each.text for each in named("inference-db", "STOPSIGNAL")] == ["SIGINT"]
    assert not given.keys() & {"POSTGRES_USER", "POSTGRES_PASSWORD", "POSTGRES_DB"}


# The context


def patterns(image: str = "") -> list[tuple[bool, str]]:
    """The lines of .dockerignore, or of an image's own: whether they leave out, and what."""
    file = in_body(f"deploy/images/{image}.Dockerfile.dockerignore" if image else ".dockerignore")
    lines = file.read_text(encoding="utf-8").splitlines()
    used = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    return [(not line.startswith("!"), line.removeprefix("!")) for line in used]


def reaches_a_builder(name: str, image: str = "") -> bool:
    """Whether a file of the project is part of the context: the last line that fits it or a folder of it decides."""
    parts = name.split("/")
    left_out = False
    for leaves_out, pattern in patterns(image):
        if any(fits(parts[:length], pattern.split("/")) for length in range(1, len(parts) + 1)):
            left_out = leaves_out
    return not left_out


def fits(parts: list[str], pattern: list[str]) -> bool:
    """Whether a path is what a pattern says; `**` stands for any number of folders."""
    if not pattern or not parts:
        return not pattern and not parts
    if pattern[0] == "**":
        return any(fits(parts[skipped:], pattern[1:]) for skipped in range(len(parts) + 1))
    return fnmatchcase(parts[0], pattern[0]) and fits(parts[1:], pattern[1:])


def body_files() -> list[str]:
    """The files that the body has for a project, with all variants."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=BODY, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return [in_project(name) for name in listed.split("\0") if name and (BODY / name).is_file()]


def copied(images: Sequence[str]) -> list[str]:
    """What the Dockerfiles copy from the context."""
    found = []
    for image in images:
        for each in named(image, "COPY"):
            if "--from=" not in each.text:
                found += [word.rstrip("/") for word in each.words[:-1]]
    return found


def test_the_context_is_what_the_images_copy() -> None:
    """All of it, and but for lock files of others nothing more: no history, no state, no secrets, no tests."""
    wanted = copied([image for image in NAMES if image not in ALONE])
    assert "requirements/ui.tx[t]" in wanted
    context = {name for name in body_files() if reaches_a_builder(name)}
    for pattern in wanted:
        assert any(name == pattern or fnmatchcase(name, pattern) or name.startswith(f"{pattern}/") for name in context)
    needless = {
        name
        for name in context
        if not any(name == each or fnmatchcase(name, each) or name.startswith(f"{each}/") for each in wanted)
    }
    # No image takes datahub.txt or kubeflow.txt, and the one that takes pgadmin.txt has a context of its own.
    others = {f"requirements/{role}.txt" for role in ("datahub", "kubeflow", "pgadmin")}
    assert needless == {"requirements/overrides.txt", "requirements/training-db.txt", *others}


@pytest.mark.parametrize("image", ALONE)
def test_a_context_of_its_own_is_exactly_what_the_image_copies(image: str) -> None:
    """No more than that reaches its builder: the folder also holds what pgAdmin keeps, its passfile among it."""
    assert {name for name in body_files() if reaches_a_builder(name, image)} == set(copied([image]))
    assert not reaches_a_builder("pgadmin/data/passfile", image)


@pytest.mark.parametrize(
    "name",
    [
        ".git/config",
        ".local/state.json",
        ".env",
        "app/__pycache__/api.cpython-311.pyc",
        "app/api.pyc",
        "deploy/values.yaml",
        "local/state.py",
        "model.py",
        "app/__pycache__/api.cpython-311.pyc.140234",
        "tests/test_local.py",
    ],
)
def test_the_rest_never_reaches_a_builder(name: str) -> None:
    """Whatever lies in the folder of the project."""
    assert not reaches_a_builder(name)


# The inference database's entry point, on this machine's PostgreSQL


class Server:
    """The entry point's own server: its folder, its variables, and the process that runs."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder = folder
        self.data = folder / "volume" / "15" / "data"
        self.log = folder / "log"
        # Where its user gets in, wherever the repository lies.
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
        """Write a file that the server's user alone may read; return its path."""
        path = self.folder / name
        path.write_text(content, encoding="utf-8")
        path.chmod(0o400)
        self.give(path)
        return str(path)

    def give(self, path: Path) -> None:
        """Make the server's user the owner."""
        if not os.geteuid():
            shutil.chown(path, account(), account())

    def start(self, *arguments: str) -> None:
        """Start it and wait until it answers or ends."""
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
        """Start it and return why it ends."""
        self.start(*arguments)
        assert self.process is not None
        assert self.process.wait(10) == 1
        return self.log.read_text(encoding="utf-8").splitlines()[-1]

    def stop(self, how: signal.Signals = signal.SIGINT) -> int:
        """End it and return its status."""
        assert self.process is not None
        self.process.send_signal(how)
        return self.process.wait(10)

    def kill(self) -> None:
        """End what is left of it."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    @contextlib.contextmanager
    def session(self, sslmode: str = "prefer", password: str = PASSWORD) -> Iterator[psycopg2.extensions.cursor]:
        """Log in from outside, as an app does."""
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
    """Whom the server runs as: PostgreSQL refuses root."""
    return "postgres" if not os.geteuid() else pwd.getpwuid(os.geteuid()).pw_name


@pytest.fixture(name="server")
def _server() -> Iterator[Server]:
    """A server whose volume is empty; it is ended, and what it kept is removed."""
    install = ["/usr/bin/python3", "-m", "local", "install", "--packages"]
    done = subprocess.run(install, cwd=BODY, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}, check=False)
    assert done.returncode == 0
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    # Below a folder of pytest's nobody else may look.
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
def test_the_first_start_makes_the_database(server: Server) -> None:
    """With PL/Python, and with a superuser whose password is asked for and stands in no log; the second keeps it."""
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
    # Whoever is connected is not waited for.
    with pytest.raises(psycopg2.OperationalError), server.session() as cursor:
        assert server.stop() == 0
        cursor.execute("SELECT 1")
    server.start("-c", "max_connections=33")
    with server.session() as cursor:
        cursor.execute("SELECT x, current_setting('max_connections') FROM kept")
        assert cursor.fetchall() == [(7, "33")]
    assert PASSWORD not in log + server.log.read_text(encoding="utf-8")


@pytest.mark.slow
def test_with_a_certificate_nobody_gets_in_without_tls(server: Server) -> None:
    """The password is asked for as well."""
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
def test_what_a_killed_start_has_left_is_made_anew(server: Server) -> None:
    """A data folder without its database is never taken for one."""
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
def test_what_it_is_told_wrongly_is_said_in_a_sentence(server: Server, variable: str, value: str, reason: str) -> None:
    """Before it listens."""
    server.variables[variable] = value
    said = server.refusal()
    assert said.startswith(f"inference-db: {reason}"), said
