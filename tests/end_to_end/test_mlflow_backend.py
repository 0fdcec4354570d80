"""The whole pipeline on a tracking server with PostgreSQL and an S3 store, and the manifests' server on the same."""

import http.client
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .backed_project import Backed
from .deployed_server import Deployed
from .object_store import ObjectStore
from .project import Project, chain, step_lines
from .servers import CommandLines, Servers, end_leftovers

PREFIX = "of/the-project/"
DESTINATION = "MLFLOW_ARTIFACTS_DESTINATION"
KEY, SECRET = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"
ENDPOINT = "MLFLOW_S3_ENDPOINT_URL"


@pytest.fixture(scope="module")
def store(work: Path) -> Iterator[ObjectStore]:
    """A MinIO that runs until the module ends."""
    started = ObjectStore(work / "minio")
    started.start()
    yield started
    started.stop()


@pytest.fixture(scope="module")
def backed(work: Path, store: ObjectStore, command_lines: CommandLines) -> Iterator[Backed]:
    """The default project after `make pipeline` in a shell with the variables of the store."""
    place = work / "backed"
    place.mkdir()
    project = Project.generate(place, Servers(place / "state"), own=True)
    running = Backed(project, store)
    try:
        project.local("start", **store.variables)
        project.servers.mlflow = project.run("printenv", "MLFLOW_TRACKING_URI").stdout.strip()
        completed = subprocess.run(
            ["make", "--no-print-directory", "pipeline"], cwd=project.folder,
            env={**project.environment, **store.variables},
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        running.printed = completed.stdout + completed.stderr
        project.servers.outputs.append(running.printed)
        assert completed.returncode == 0, running.printed
        yield running
    finally:
        project.local("stop")
        leftovers = end_leftovers(place)
        assert not leftovers, f"processes {leftovers} outlived `local stop`"


# The pipeline


def test_the_pipeline_runs(backed: Backed) -> None:
    """Every step answers, and the inference database serves version 1."""
    steps = chain(backed.project)
    assert step_lines(backed.printed, steps) == steps
    with backed.project.database("inference-app") as database:
        ((version, metric_values),) = database.query("SELECT version, metrics FROM {schema}.model_info")
    assert version == 1
    assert metric_values["accuracy_score"] >= 0.97


def test_artifacts_are_in_the_bucket(backed: Backed) -> None:
    """All of them are below the given path, and none is on this machine."""
    objects = backed.store.objects(backed.environment)
    assert all(key.startswith(PREFIX) for key in objects), objects
    names = {key.rpartition("/")[2] for key in objects}
    assert {"architecture.json", "report.html", "curves.png", "model.onnx", "MLmodel"} <= names
    # The check of the store left no object.
    assert min(objects.values()) > 0
    assert not list((backed.state / "mlflow" / "data").iterdir())


def test_the_served_model_came_from_the_bucket(backed: Backed) -> None:
    """The model in the inference database has the size of the object; MLflow gives only its own address."""
    objects = backed.store.objects(backed.environment)
    (size,) = [size for key, size in objects.items() if key.endswith("model.onnx")]
    with backed.project.database("inference-deployer") as database:
        assert database.value("SELECT length(onnx) FROM {schema}.model_version") == size
    for run in backed.project.servers.tracking.runs(backed.project.schema):
        assert run["info"]["artifact_uri"].startswith("mlflow-artifacts:/")


def test_runs_are_in_postgresql(backed: Backed) -> None:
    """They have a database and a role; the training and inference databases hold no table of MLflow."""
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
    """The steps get no variable of the store from the shell, and no binding names a store."""
    for shell in (backed.store.variables, {}):
        environment = backed.project.run("printenv", **shell).stdout
        assert "SERVICE_BINDING_ROOT=" in environment
        assert not [line for line in environment.splitlines() if line.startswith(("AWS_", "MLFLOW_S3", DESTINATION))]
        assert not any(secret in environment for secret in [*backed.secrets(), backed.store.key])
    folders = {path.name for path in backed.project.servers.bindings.iterdir()}
    assert folders == {"training-deployer", "trainer", "inference-deployer", "inference-app"}


def test_steps_go_through_the_server(backed: Backed) -> None:
    """Otherwise MLflow's client would use presigned URLs of the store."""
    log = backed.log()
    assert "PUT /api/2.0/mlflow-artifacts/artifacts/" in log
    assert "artifacts/model.onnx" in log
    assert "presigned" not in log


def test_secrets_do_not_leak(backed: Backed, command_lines: CommandLines) -> None:
    """No command line, log, output or file contains one, except state.json and the bindings."""
    assert any(b"postgresql+psycopg2://" in line for line in command_lines.seen)
    files = [path for path in backed.state.rglob("*") if path.is_file()]
    searched = [path for path in files if path.relative_to(backed.state).parts[0] not in ("bindings", "state.json")]
    assert {"tracking", "mlflow"} <= {path.relative_to(backed.state).parts[0] for path in searched}
    contents = [path.read_bytes() for path in [*searched, backed.store.folder / "log"]]
    for secret in backed.secrets():
        assert not [line for line in command_lines.seen if secret.encode() in line]
        assert not any(secret in output for output in backed.project.servers.outputs)
        assert not any(secret.encode() in content for content in contents)
    assert (backed.state / "state.json").stat().st_mode & 0o077 == 0


# Restarts and mistakes


# Answers of a store, and a destination that needs no store; the project's test_mlflow_backend.py has more.
WRONG: list[tuple[dict[str, str], str]] = [
    ({ENDPOINT: "http://127.0.0.1:1"}, r"the S3 store at http://127.0.0.1:1 does not answer"),
    ({KEY: "wrong"}, "does not know the access key: check AWS_ACCESS_KEY_ID"),
    ({SECRET: "wrong"}, "refuses the secret key: check AWS_SECRET_ACCESS_KEY"),
    ({KEY: "", SECRET: ""}, "needs keys: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
    ({DESTINATION: "s3://not-there"}, "has no bucket not-there: create it, or correct MLFLOW_ARTIFACTS_DESTINATION"),
    ({DESTINATION: "/artifacts"}, "MLFLOW_ARTIFACTS_DESTINATION is '/artifacts': allowed is s3://BUCKET"),
]


@pytest.mark.parametrize(("wrong", "sentence"), WRONG, ids=lambda value: next(iter(value), "") if value else "")
def test_a_wrong_store_is_reported_in_one_line(
    backed: Backed, work: Path, wrong: dict[str, str], sentence: str
) -> None:
    """`start` reports it before it creates a server, and so does `doctor`, which is run for both destinations."""
    place = work / "wrong-state"
    # Without this, boto3 asks the metadata service of a cloud for keys.
    variables = {**backed.store.variables, "AWS_EC2_METADATA_DISABLED": "true", **wrong, "LOCAL_STATE": str(place)}
    assert sentence in backed.refuses("start", **variables)
    assert {path.name for path in place.iterdir()} <= {"state.json"}
    assert backed.store.secret not in (place / "state.json").read_text()
    if DESTINATION in wrong:
        completed = backed.project.local("doctor", status=1, **variables)
        assert sentence in completed.stdout + completed.stderr
        assert "Traceback" not in completed.stdout + completed.stderr


def test_keys_may_come_from_a_file(backed: Backed, work: Path) -> None:
    """`start` reads the credentials file of AWS tools and $AWS_PROFILE, and leaves a running server alone."""
    file = work / "credentials"
    file.write_text(f"[team]\naws_access_key_id = {backed.store.key}\naws_secret_access_key = {backed.store.secret}\n")
    variables = {**backed.store.variables, "AWS_SHARED_CREDENTIALS_FILE": str(file)}
    del variables[KEY], variables[SECRET]
    assert "has no profile [default]: choose one with AWS_PROFILE" in backed.refuses("start", **variables)
    before = backed.project.local("status").stdout
    backed.project.local("start", AWS_PROFILE="team", **variables)
    assert backed.project.local("status").stdout == before


def test_a_running_server_keeps_its_store(backed: Backed) -> None:
    """Another bucket or wrong keys are refused, and the server keeps running with its own."""
    before = backed.project.local("status").stdout
    another_bucket = {**backed.store.variables, DESTINATION: "s3://another"}
    assert "run `make down`, which removes its runs" in backed.refuses("start", **another_bucket)
    assert "refuses the secret key" in backed.refuses("start", **{**backed.store.variables, SECRET: "wrong"})
    assert backed.project.local("status").stdout == before
    assert "found    MLflow's stores" in backed.project.local("doctor").stdout


def test_an_unreachable_store_is_worth_a_retry(backed: Backed) -> None:
    """A step exits with 75 and a one-line message; the doctor names the store."""
    with backed.store.away():
        completed = backed.project.pipeline(
            "evaluate_model", status=os.EX_TEMPFAIL, MLFLOW_HTTP_REQUEST_MAX_RETRIES="0"
        )
        (sentence,) = completed.stderr.strip().splitlines()
        assert sentence.startswith(f"error: MLflow at {backed.project.servers.mlflow} does not answer")
        report = backed.project.local("doctor", status=1).stdout
        assert f"missing  MLflow's stores: the S3 store at {backed.store.address} does not answer" in report


def test_a_restart_keeps_everything(backed: Backed) -> None:
    """`start` needs no variable of the store again; a wrong password of the database is a one-line message."""
    before, password = backed.persistent_state(), backed.passwords()["tracking-mlflow"]
    with backed.tracking("deployer") as cursor:
        cursor.execute("ALTER ROLE mlflow PASSWORD 'another'")
    sentence = 'refuses: password authentication failed for user "mlflow"'
    assert sentence in backed.project.local("doctor", status=1).stdout
    backed.project.local("stop", "--keep")
    with backed.store.away():
        pass
    assert backed.refuses("start").endswith(sentence)
    with backed.tracking("deployer") as cursor:
        cursor.execute("ALTER ROLE mlflow PASSWORD %s", (password,))
    backed.project.local("start")
    backed.project.servers.mlflow = backed.project.run("printenv", "MLFLOW_TRACKING_URI").stdout.strip()
    assert backed.persistent_state() == before
    assert "version 1 holds staging already" in backed.project.pipeline("promote_model").stdout
    assert "s3://" in backed.project.local("status").stdout


# The server of deploy/mlflow, with a login


SEARCH = "/api/2.0/mlflow/experiments/search?max_results=10"
USERS = "/api/2.0/mlflow/users/create"
ADMIN = "the-admin:the first password"
USER = {"username": "ml-pipeline", "password": "of-the-pipeline-1"}


@pytest.fixture(scope="module")
def deployed(backed: Backed, work: Path) -> Iterator[Deployed]:
    """The server of deploy/mlflow on an empty database with its own role, and a user for the pipeline."""
    with backed.tracking("deployer") as cursor:
        cursor.execute("CREATE ROLE team LOGIN PASSWORD 'the database''s'")
        cursor.execute("CREATE DATABASE team OWNER team")
    server = Deployed(backed, work / "deployed")
    for number in range(2):
        completed = server.initialise(number)
        assert completed.returncode == 0, completed.stderr
    try:
        server.start()
        assert server.ask("POST", USERS, ADMIN, USER)[0] == http.client.OK
        yield server
    finally:
        server.stop()


def test_the_deployed_server_requires_a_login(deployed: Deployed) -> None:
    """Without a login only /health answers; requests to a foreign host name are forbidden."""
    assert deployed.status(SEARCH) == http.client.UNAUTHORIZED
    assert deployed.status(SEARCH, login="the-admin:password1234") == http.client.UNAUTHORIZED
    assert deployed.status(SEARCH, login=ADMIN) == http.client.OK
    assert deployed.status("/health") == http.client.OK
    for name in ("mlflow", "mlflow.tracking", "mlflow.tracking.svc.cluster.local", "localhost:8080"):
        assert deployed.status(SEARCH, login=ADMIN, host=name) == http.client.OK, name
    assert deployed.status(SEARCH, login=ADMIN, host="mlflow.example.org") == http.client.FORBIDDEN


def test_steps_work_with_a_login(deployed: Deployed, backed: Backed) -> None:
    """The user needs no administration rights; a wrong password is a one-line message."""
    login = {"MLFLOW_TRACKING_USERNAME": USER["username"], "MLFLOW_TRACKING_PASSWORD": USER["password"]}
    address_and_login = {"MLFLOW_TRACKING_URI": deployed.address, **login}
    backed.project.pipeline(
        "deploy_training_code", "train_model", "evaluate_model", "promote_model", **address_and_login
    )
    objects = backed.store.objects(backed.environment)
    assert [key for key in objects if key.startswith("of/a-team/") and key.endswith("model.onnx")]
    wrong = {**address_and_login, "MLFLOW_TRACKING_PASSWORD": "wrong"}
    (sentence,) = backed.project.pipeline("evaluate_model", status=1, **wrong).stderr.strip().splitlines()
    assert sentence.startswith(f"error: MLflow at {deployed.address} refused: ")


def test_the_deployed_server_restarts(deployed: Deployed) -> None:
    """It starts on existing tables and keeps its experiments."""
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
def test_a_pod_reports_a_wrong_secret(deployed: Deployed, secret: str, key: str, sentence: str) -> None:
    """The log of its first container is one line."""
    correct = deployed.secrets[secret][key]
    deployed.secrets[secret][key] = "wrong"
    completed = deployed.initialise(0)
    deployed.secrets[secret][key] = correct
    assert completed.returncode == 1
    assert completed.stderr.strip().endswith(sentence)
    assert len(completed.stderr.strip().splitlines()) == 1


def test_secrets_of_the_deployed_server_do_not_leak(deployed: Deployed, command_lines: CommandLines) -> None:
    """No command line contains one, nor does the log."""
    log = (deployed.files.parent / "log").read_bytes()
    assert b"presigned" not in log
    for keys in deployed.secrets.values():
        for key, secret in keys.items():
            if key != "username" and key != "access-key-id":
                assert secret.encode() not in log
                assert not [line for line in command_lines.seen if secret.encode() in line]
