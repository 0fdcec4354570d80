"""The whole pipeline on a tracking server with PostgreSQL and an S3 store, and the manifests' server on the same."""

import base64
import contextlib
import http.client
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from tools import manifests

from .object_store import BUCKET, ObjectStore, free_port
from .project import Project, chain, step_lines
from .servers import CommandLines, Servers, end_leftovers, wait_until

PREFIX = "of/the-project/"
DESTINATION = "MLFLOW_ARTIFACTS_DESTINATION"
KEY, SECRET = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"
ENDPOINT = "MLFLOW_S3_ENDPOINT_URL"


@dataclass
class Backed:
    """A project whose tracking server has the two stores, and what one run of `make pipeline` printed."""

    project: Project
    store: ObjectStore
    printed: str = ""

    @property
    def state(self) -> Path:
        """The servers' state folder."""
        return self.project.servers.state

    @property
    def environment(self) -> Path:
        """The Python environment of the tracking server."""
        return Path(self.project.local("path", "mlflow-server").stdout.strip())

    def passwords(self) -> dict[str, str]:
        """Every password of the local servers."""
        found: dict[str, str] = json.loads((self.state / "state.json").read_text(encoding="utf-8"))["passwords"]
        return found

    def secrets(self) -> list[str]:
        """Every text that nobody but the servers may have."""
        return [*self.passwords().values(), self.store.secret]

    def port(self, server: str) -> int:
        """A server's port."""
        kept = json.loads((self.state / "state.json").read_text(encoding="utf-8"))
        return int(kept["servers"][server]["port"])

    @contextlib.contextmanager
    def tracking(self, role: str = "mlflow", database: str = "tracking") -> Iterator[Any]:
        """A session with the cluster that holds MLflow's database."""
        connection = psycopg2.connect(
            host="localhost", port=self.port("tracking"), dbname=database, user=role, sslmode="verify-full",
            password=self.passwords()[f"tracking-{role}"], sslrootcert=str(self.state / "authority" / "ca.crt"),
        )  # fmt: skip
        connection.autocommit = True
        with contextlib.closing(connection), connection.cursor() as cursor:
            yield cursor

    def log(self) -> str:
        """What the tracking server has logged."""
        return (self.state / "mlflow" / "log").read_text(encoding="utf-8", errors="replace")

    def refuses(self, *command: str, **variables: str) -> str:
        """Run a command that fails, and return the one sentence it prints."""
        done = self.project.local(*command, status=1, **variables)
        assert "Traceback" not in done.stderr
        # Servers that did start are lines of progress.
        (sentence,) = (line for line in done.stderr.splitlines() if ", started in " not in line)
        assert sentence.startswith("local: ")
        return sentence

    def kept(self) -> tuple[Any, ...]:
        """What a restart may not change: runs, the alias, the objects."""
        tracking = self.project.servers.tracking
        runs = sorted(run["info"]["run_id"] for run in tracking.runs(self.project.schema))
        return runs, tracking.alias(self.project.schema, "staging"), self.store.objects(self.environment)


@pytest.fixture(scope="module")
def store(work: Path) -> Iterator[ObjectStore]:
    """MinIO."""
    found = ObjectStore(work / "minio")
    found.start()
    yield found
    found.stop()


@pytest.fixture(scope="module")
def backed(work: Path, store: ObjectStore, command_lines: CommandLines) -> Iterator[Backed]:
    """The default project after `make pipeline`; the person has the store's variables in their shell."""
    place = work / "backed"
    place.mkdir()
    project = Project.generate(place, Servers(place / "state"), own=True)
    found = Backed(project, store)
    try:
        project.local("start", **store.variables)
        project.servers.mlflow = project.run("printenv", "MLFLOW_TRACKING_URI").stdout.strip()
        done = subprocess.run(
            ["make", "--no-print-directory", "pipeline"], cwd=project.folder,
            env={**project.environment, **store.variables},
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        found.printed = done.stdout + done.stderr
        project.servers.outputs.append(found.printed)
        assert done.returncode == 0, found.printed
        yield found
    finally:
        project.local("stop")
        left = end_leftovers(place)
        assert not left, f"processes {left} outlived `local stop`"


# The pipeline


def test_the_pipeline_runs(backed: Backed) -> None:
    """Every step answers, and the inference database serves version 1."""
    steps = chain(backed.project)
    assert step_lines(backed.printed, steps) == steps
    with backed.project.database("inference-app") as database:
        ((version, found),) = database.query("SELECT version, metrics FROM {schema}.model_info")
    assert version == 1
    assert found["accuracy_score"] >= 0.97


def test_artifacts_lie_in_the_bucket(backed: Backed) -> None:
    """All of them, below the named path; none lies on this machine."""
    objects = backed.store.objects(backed.environment)
    assert all(key.startswith(PREFIX) for key in objects), objects
    names = {key.rpartition("/")[2] for key in objects}
    assert {"architecture.json", "weights.f4", "report.html", "curves.png", "model.onnx", "MLmodel"} <= names
    # The check of the store has left nothing.
    assert min(objects.values()) > 0
    assert not list((backed.state / "mlflow" / "data").iterdir())


def test_what_serves_came_from_the_bucket(backed: Backed) -> None:
    """The model in the inference database is the object, in size, and MLflow gives no other address than its own."""
    objects = backed.store.objects(backed.environment)
    (size,) = [size for key, size in objects.items() if key.endswith("model.onnx")]
    with backed.project.database("inference-deployer") as database:
        assert database.value("SELECT length(onnx) FROM {schema}.model_version") == size
    for run in backed.project.servers.tracking.runs(backed.project.schema):
        assert run["info"]["artifact_uri"].startswith("mlflow-artifacts:/")


def test_runs_lie_in_postgresql(backed: Backed) -> None:
    """In a database of their own, which belongs to a role of its own; the other two know nothing of MLflow."""
    runs = backed.project.servers.tracking.runs(backed.project.schema)
    with backed.tracking() as cursor:
        cursor.execute("SELECT count(*) FROM runs WHERE status = 'FINISHED'")
        assert cursor.fetchone() == (len(runs),) == (len(chain(backed.project)) + 1,)
        cursor.execute("SELECT name, version FROM model_versions")
        assert cursor.fetchall() == [(backed.project.schema, 1)]
        cursor.execute("SELECT current_user, rolsuper, rolcreaterole FROM pg_roles WHERE rolname = current_user")
        assert cursor.fetchone() == ("mlflow", False, False)
        cursor.execute("SELECT count(*) FROM pg_extension WHERE extname LIKE 'plpython%'")
        assert cursor.fetchone() == (0,)
    for binding in ("training-deployer", "inference-deployer"):
        with backed.project.database(binding) as database:
            assert not database.query("SELECT 1 FROM pg_tables WHERE tablename IN ('experiments', 'alembic_version')")


# Keys and passwords


def test_steps_hold_no_key(backed: Backed) -> None:
    """Neither with the store's variables in the person's shell nor later, and no binding names a store."""
    for shell in (backed.store.variables, {}):
        told = backed.project.run("printenv", **shell).stdout
        assert "SERVICE_BINDING_ROOT=" in told
        assert not [line for line in told.splitlines() if line.startswith(("AWS_", "MLFLOW_S3", DESTINATION))]
        assert not any(secret in told for secret in [*backed.secrets(), backed.store.key])
    folders = {path.name for path in backed.project.servers.bindings.iterdir()}
    assert folders == {"training-deployer", "trainer", "inference-deployer", "inference-app"}


def test_steps_go_through_the_server(backed: Backed) -> None:
    """MLflow's client would fetch from the store itself, by a presigned address, if it were let."""
    log = backed.log()
    assert "PUT /api/2.0/mlflow-artifacts/artifacts/" in log
    assert "artifacts/model.onnx" in log
    assert "presigned" not in log


def test_no_secret_is_seen(backed: Backed, command_lines: CommandLines) -> None:
    """On no command line, in no log, in nothing that was printed, in no file but the one where they are kept."""
    assert any(b"postgresql+psycopg2://" in line for line in command_lines.seen)
    files = [path for path in backed.state.rglob("*") if path.is_file()]
    looked_at = [path for path in files if path.relative_to(backed.state).parts[0] not in ("bindings", "state.json")]
    assert {"tracking", "mlflow"} <= {path.relative_to(backed.state).parts[0] for path in looked_at}
    contents = [path.read_bytes() for path in [*looked_at, backed.store.folder / "log"]]
    for secret in backed.secrets():
        assert not [line for line in command_lines.seen if secret.encode() in line]
        assert not any(secret in output for output in backed.project.servers.outputs)
        assert not any(secret.encode() in content for content in contents)
    assert (backed.state / "state.json").stat().st_mode & 0o077 == 0


# What a restart leaves, and what goes wrong


WRONG: list[tuple[dict[str, str], str]] = [
    ({ENDPOINT: "http://127.0.0.1:1"}, r"the S3 store at http://127.0.0.1:1 does not answer"),
    ({ENDPOINT: "http://key:word@example.com"}, "MLFLOW_S3_ENDPOINT_URL is not an address: allowed is"),
    ({KEY: "wrong"}, "does not know the access key: check AWS_ACCESS_KEY_ID"),
    ({SECRET: "wrong"}, "refuses the secret key: check AWS_SECRET_ACCESS_KEY"),
    ({KEY: "", SECRET: ""}, "needs keys: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
    ({DESTINATION: "s3://not-there"}, "has no bucket not-there: create it, or correct MLFLOW_ARTIFACTS_DESTINATION"),
    ({DESTINATION: "/artifacts"}, "MLFLOW_ARTIFACTS_DESTINATION is '/artifacts': allowed is s3://BUCKET"),
    ({"AWS_SHARED_CREDENTIALS_FILE": "/not/there"}, "/not/there cannot be read: No such file or directory"),
]


@pytest.mark.parametrize(("wrong", "sentence"), WRONG, ids=lambda found: next(iter(found), "") if found else "")
def test_a_wrong_store_is_one_sentence(backed: Backed, work: Path, wrong: dict[str, str], sentence: str) -> None:
    """From `start`, before any server is made, and from `doctor`."""
    place = work / "wrong-state"
    # Else boto3 looks for keys where a cloud's machine has them.
    variables = {**backed.store.variables, "AWS_EC2_METADATA_DISABLED": "true", **wrong, "LOCAL_STATE": str(place)}
    assert sentence in backed.refuses("start", **variables)
    assert {path.name for path in place.iterdir()} <= {"state.json"}
    assert backed.store.secret not in (place / "state.json").read_text()
    done = backed.project.local("doctor", status=1, **variables)
    assert sentence in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_keys_may_come_from_a_file(backed: Backed, work: Path) -> None:
    """The file that AWS's tools read, with the profile that AWS_PROFILE names; the server is left as it is."""
    file = work / "credentials"
    file.write_text(f"[team]\naws_access_key_id = {backed.store.key}\naws_secret_access_key = {backed.store.secret}\n")
    given = {**backed.store.variables, "AWS_SHARED_CREDENTIALS_FILE": str(file)}
    del given[KEY], given[SECRET]
    assert "has no profile [default]: choose one with AWS_PROFILE" in backed.refuses("start", **given)
    before = backed.project.local("status").stdout
    backed.project.local("start", AWS_PROFILE="team", **given)
    assert backed.project.local("status").stdout == before


def test_a_running_server_keeps_its_place(backed: Backed) -> None:
    """Another bucket, or keys that are wrong, are refused, and the server goes on with what it has."""
    before = backed.project.local("status").stdout
    other = {**backed.store.variables, DESTINATION: "s3://another"}
    assert "run `make down`, which removes its runs" in backed.refuses("start", **other)
    assert "refuses the secret key" in backed.refuses("start", **{**backed.store.variables, SECRET: "wrong"})
    assert backed.project.local("status").stdout == before
    assert "found    MLflow's stores" in backed.project.local("doctor").stdout


def test_a_step_says_that_the_store_is_away(backed: Backed) -> None:
    """In one sentence, as something that passes; so does the doctor."""
    with backed.store.away():
        done = backed.project.pipeline("evaluate_model", status=os.EX_TEMPFAIL, MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")
        (sentence,) = done.stderr.strip().splitlines()
        assert sentence.startswith(f"error: MLflow at {backed.project.servers.mlflow} does not answer")
        told = backed.project.local("doctor", status=1).stdout
        assert f"missing  MLflow's stores: the S3 store at {backed.store.address} does not answer" in told


def test_everything_is_there_after_a_restart(backed: Backed) -> None:
    """Of all servers and the store. Nothing is named again; a database that refuses the password is one sentence."""
    before, right = backed.kept(), backed.passwords()["tracking-mlflow"]
    with backed.tracking("deployer") as cursor:
        cursor.execute("ALTER ROLE mlflow PASSWORD 'another'")
    sentence = 'refuses: password authentication failed for user "mlflow"'
    assert sentence in backed.project.local("doctor", status=1).stdout
    backed.project.local("stop", "--keep")
    with backed.store.away():
        pass
    assert backed.refuses("start").endswith(sentence)
    with backed.tracking("deployer") as cursor:
        cursor.execute("ALTER ROLE mlflow PASSWORD %s", (right,))
    backed.project.local("start")
    backed.project.servers.mlflow = backed.project.run("printenv", "MLFLOW_TRACKING_URI").stdout.strip()
    assert backed.kept() == before
    assert "version 1 holds staging already" in backed.project.pipeline("promote_model").stdout
    assert "s3://" in backed.project.local("status").stdout


# The manifests' server, with a login, as its pod is told to run it


class Deployed:
    """The containers of deploy/mlflow's Deployment, run on this machine with their commands and variables."""

    def __init__(self, backed: Backed, folder: Path) -> None:
        self.backed = backed
        self.files = folder / "files"
        self.port = free_port()
        self.secrets = {
            "mlflow-database": {"username": "team", "password": "the database's"},
            "mlflow-artifacts": {"access-key-id": backed.store.key, "secret-access-key": backed.store.secret},
            "mlflow-login": {"username": "the-admin", "password": "the first password", "secret-key": "signs forms"},
        }
        authority = (backed.state / "authority" / "ca.crt").read_text(encoding="ascii")
        values = {
            "namespace": "tracking",
            "image": "registry.example.com/ml/mlflow:1",
            "workers": 1,
            "database": {"host": "localhost", "port": backed.port("tracking"), "name": "team"},
            "artifacts": {"destination": f"s3://{BUCKET}/of/a-team", "endpoint": backed.store.address},
        }
        values["database"]["caCertificate"] = authority
        text = manifests.tracking_server(backed.project.folder, values)
        (deployment,) = manifests.of_kind(text, "Deployment")
        self.pod = deployment["spec"]["template"]["spec"]
        self.files.mkdir(parents=True)
        (config,) = manifests.of_kind(text, "ConfigMap")
        for name, content in config["data"].items():
            (self.files / name).write_text(content, encoding="utf-8")
        self.server: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Where it answers."""
        return f"http://localhost:{self.port}"

    def here(self, text: str) -> str:
        """Put this machine's places where the container's are named."""
        text = text.replace("/etc/mlflow", str(self.files)).replace("0.0.0.0", "127.0.0.1")  # noqa: S104
        check = self.backed.project.folder / "deploy" / "mlflow" / "check_stores.py"
        return text.replace("/opt/mlflow/check_stores.py", str(check))

    def command(self, container: dict[str, Any]) -> list[str]:
        """A container's command."""
        program, *arguments = (self.here(word) for word in container["command"])
        return [
            str(self.backed.environment / "bin" / program),
            *[str(self.port) if word == "5000" else word for word in arguments],
        ]

    def variables(self, container: dict[str, Any]) -> dict[str, str]:
        """A container's variables, those of Secrets among them."""
        found = {"PATH": f"{self.backed.environment / 'bin'}:{os.defpath}", "PYTHONDONTWRITEBYTECODE": "1"}
        for entry in container["env"]:
            reference = entry.get("valueFrom", {}).get("secretKeyRef")
            value = self.secrets[reference["name"]][reference["key"]] if reference else entry["value"]
            found[entry["name"]] = value if reference else self.here(value)
        return found

    def initialise(self, number: int) -> subprocess.CompletedProcess[str]:
        """Run an init container to its end."""
        container = self.pod["initContainers"][number]
        return subprocess.run(
            self.command(container), env=self.variables(container), cwd="/", capture_output=True, text=True,
            timeout=120, check=False,
        )  # fmt: skip

    def start(self) -> None:
        """Run the server, and wait as its probe does."""
        (container,) = self.pod["containers"]
        path = container["readinessProbe"]["httpGet"]["path"]
        with (self.files.parent / "log").open("wb") as log:
            self.server = subprocess.Popen(
                self.command(container), env=self.variables(container), cwd="/", stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        wait_until(lambda: self.status(path) == http.client.OK, 120, "the deployed server")

    def stop(self) -> None:
        """End it."""
        if self.server:
            os.killpg(self.server.pid, signal.SIGTERM)
            self.server.wait(30)

    def ask(self, method: str, path: str, login: str = "", body: Any = None, host: str = "") -> tuple[int, str]:
        """Return status and body of an answer."""
        headers = {"Host": host} if host else {}
        if login:
            headers["Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"
        if body is not None:
            headers["Content-Type"] = "application/json"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode(errors="replace")

    def status(self, path: str, **more: str) -> int:
        """Return the status of a GET, 0 where nothing answers."""
        try:
            return self.ask("GET", path, **more)[0]
        except OSError:
            return 0


SEARCH = "/api/2.0/mlflow/experiments/search?max_results=10"
USERS = "/api/2.0/mlflow/users/create"
ADMIN = "the-admin:the first password"
USER = {"username": "ml-pipeline", "password": "of-the-pipeline-1"}


@pytest.fixture(scope="module")
def deployed(backed: Backed, work: Path) -> Iterator[Deployed]:
    """The server of the manifests, on an empty database that belongs to its role, with a user for the pipeline."""
    with backed.tracking("deployer") as cursor:
        cursor.execute("CREATE ROLE team LOGIN PASSWORD 'the database''s'")
        cursor.execute("CREATE DATABASE team OWNER team")
    found = Deployed(backed, work / "deployed")
    for number in range(2):
        done = found.initialise(number)
        assert done.returncode == 0, done.stderr
    try:
        found.start()
        assert found.ask("POST", USERS, ADMIN, USER)[0] == http.client.OK
        yield found
    finally:
        found.stop()


def test_the_deployed_server_wants_a_login(deployed: Deployed) -> None:
    """Whoever has none learns nothing but that it runs; a name that is not its own gets nothing either."""
    assert deployed.status(SEARCH) == http.client.UNAUTHORIZED
    assert deployed.status(SEARCH, login="the-admin:password1234") == http.client.UNAUTHORIZED
    assert deployed.status(SEARCH, login=ADMIN) == http.client.OK
    assert deployed.status("/health") == http.client.OK
    for name in ("mlflow", "mlflow.tracking", "mlflow.tracking.svc.cluster.local", "localhost:8080"):
        assert deployed.status(SEARCH, login=ADMIN, host=name) == http.client.OK, name
    assert deployed.status(SEARCH, login=ADMIN, host="mlflow.example.org") == http.client.FORBIDDEN


def test_steps_work_with_a_login(deployed: Deployed, backed: Backed) -> None:
    """That of a user who administers nothing; a wrong one is one sentence."""
    login = {"MLFLOW_TRACKING_USERNAME": USER["username"], "MLFLOW_TRACKING_PASSWORD": USER["password"]}
    there = {"MLFLOW_TRACKING_URI": deployed.address, **login}
    backed.project.pipeline("deploy_training_code", "train_model", "evaluate_model", "promote_model", **there)
    objects = backed.store.objects(backed.environment)
    assert [key for key in objects if key.startswith("of/a-team/") and key.endswith("model.onnx")]
    wrong = {**there, "MLFLOW_TRACKING_PASSWORD": "wrong"}
    (sentence,) = backed.project.pipeline("evaluate_model", status=1, **wrong).stderr.strip().splitlines()
    assert sentence.startswith(f"error: MLflow at {deployed.address} refused: ")


def test_the_deployed_server_starts_again(deployed: Deployed) -> None:
    """On tables that are there already; what it is asked for is still there."""
    before = json.loads(deployed.ask("GET", SEARCH, ADMIN)[1])
    deployed.stop()
    for number in range(2):
        assert deployed.initialise(number).returncode == 0
    deployed.start()
    assert json.loads(deployed.ask("GET", SEARCH, ADMIN)[1]) == before


@pytest.mark.parametrize(
    ("secret", "key", "sentence"),
    [
        ("mlflow-database", "password", 'refuses: password authentication failed for user "team"'),
        ("mlflow-artifacts", "secret-access-key", "refuses the secret key: check AWS_SECRET_ACCESS_KEY"),
    ],
)
def test_a_pod_says_what_is_wrong(deployed: Deployed, secret: str, key: str, sentence: str) -> None:
    """The log of its first container is one sentence."""
    right = deployed.secrets[secret][key]
    deployed.secrets[secret][key] = "wrong"
    done = deployed.initialise(0)
    deployed.secrets[secret][key] = right
    assert done.returncode == 1
    assert done.stderr.strip().endswith(sentence)
    assert len(done.stderr.strip().splitlines()) == 1


def test_no_secret_of_the_deployed_server_is_seen(deployed: Deployed, command_lines: CommandLines) -> None:
    """On no command line, and not in its log."""
    log = (deployed.files.parent / "log").read_bytes()
    assert b"presigned" not in log
    for found in deployed.secrets.values():
        for key, secret in found.items():
            if key != "username" and key != "access-key-id":
                assert secret.encode() not in log
                assert not [line for line in command_lines.seen if secret.encode() in line]
