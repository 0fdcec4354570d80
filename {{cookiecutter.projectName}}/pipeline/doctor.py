"""Checks of the programs and servers that the project needs, each with the command that fixes it.

Each step runs the checks that it needs before it starts; `./run doctor` runs them all.
"""

import dataclasses
import functools
import json
import os
import re
import shutil
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import TypedDict

import psycopg2

from pipeline import orchestrator
from pipeline.databases import Binding, Connection, binding, first_line, may_pass, query, session
from pipeline.errors import StepError, TemporaryError
from pipeline.settings import ROOT, settings

DISK_GIB = 2
NO_JAVA = "java is not on PATH"
DATABASE_FIX = "start the local servers with `make start`, or correct the service binding"
# Imports each package wherever a function of the project will run: a package with metadata may still fail to load.
# TensorFlow's threads must not receive PostgreSQL's signals.
PACKAGES_FUNCTION = """
CREATE FUNCTION pg_temp.python_packages() RETURNS SETOF text LANGUAGE plpython3u {execute_on} AS $python$
import importlib
import importlib.metadata
import json
import os
import platform
import signal
import socket

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
versions, broken = dict(), dict()
keep = signal.SIGSEGV, signal.SIGFPE, signal.SIGBUS, signal.SIGILL, signal.SIGABRT, signal.SIGKILL, signal.SIGSTOP
before = signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals) - set(keep))
try:
    for package, distribution in {packages}:
        try:
            importlib.import_module(package)
            versions[package] = importlib.metadata.version(distribution)
        except Exception as error:
            broken[package] = type(error).__name__ + ": " + str(error)
finally:
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
segment = plpy.execute("SELECT current_setting('gp_contentid', true) AS segment")[0]["segment"]
return [json.dumps(dict(
    host=socket.gethostname(), segment=segment, python=platform.python_version(), versions=versions, broken=broken
))]
$python$
"""
PACKAGES = {
    "training-db": (("numpy", "numpy"), ("tensorflow", "tensorflow-cpu"), ("keras", "keras")),
    "inference-db": (("numpy", "numpy"), ("onnxruntime", "onnxruntime")),
}


class Packages(TypedDict):
    """What Python in one place of a database imports; `segment` is None on PostgreSQL."""

    host: str
    segment: str | None
    python: str
    versions: dict[str, str]
    broken: dict[str, str]


@dataclasses.dataclass(frozen=True)
class Finding:
    """The result of a check: its name, whether it passed, details, the fix, and whether waiting may be enough."""

    name: str
    is_there: bool
    detail: str
    fix: str = ""
    is_temporary: bool = False

    def __str__(self) -> str:
        line = f"{'found  ' if self.is_there else 'missing'}  {self.name}: {self.detail}"
        return line if self.is_there or not self.fix else f"{line}\n         fix: {self.fix}"


def require(*checks: Callable[[], Finding]) -> None:
    """Run the checks.

    Raises StepError with the first that fails and its fix, TemporaryError when waiting may be enough.
    """
    for check in checks:
        finding = check()
        if not finding.is_there:
            exception = TemporaryError if finding.is_temporary else StepError
            raise exception(f"{finding.name}: {finding.detail}; {finding.fix}")


@functools.cache
def java() -> Finding:
    """Java 17 or later, for Liquibase."""
    # Liquibase takes it from there as well.
    home = os.environ.get("JAVA_HOME")
    fix = "install it: sudo apt-get install -y default-jre-headless"
    if home:
        fix = "point JAVA_HOME at Java 17 or later, or unset it"
    program = shutil.which(f"{home}/bin/java" if home else "java")
    if not program:
        return Finding("Java", False, f"JAVA_HOME is {home}, where there is no bin/java" if home else NO_JAVA, fix)
    stderr = subprocess.run([program, "-version"], capture_output=True, text=True).stderr
    version = re.search(r'^.*version "(\d+).*$', stderr, re.MULTILINE)
    is_new_enough = version is not None and int(version[1]) >= 17
    return Finding("Java", is_new_enough, version[0] if version else "no version", fix)


@functools.cache
def liquibase_program() -> Finding:
    """Liquibase is on PATH."""
    fix = "run `make install`, or put Liquibase 4.28 on PATH"
    program = shutil.which("liquibase")
    if not program:
        return Finding("Liquibase", False, "liquibase is not on PATH", fix)
    # `liquibase --version` would start Java, one second per step.
    return Finding("Liquibase", True, program, fix)


@functools.cache
def disk() -> Finding:
    """Room for data, models and MLflow's files."""
    free = shutil.disk_usage(ROOT).free / 2**30
    return Finding("Disk", free >= DISK_GIB, f"{free:.1f} GiB free at {ROOT}", f"free {DISK_GIB} GiB")


def _database(name: str, title: str) -> Finding:
    # A mistake in project.yaml raises StepError here: its fix is not the one above.
    settings()
    try:
        where = binding(name).where
        connection = session(name)
        with connection:
            version = query(connection, "SELECT version()")[0][0]
    except (StepError, psycopg2.Error) as error:
        return _no_answer(title, name, error)
    return Finding(title, True, f"{where}, {version.split(' on ')[0]}")


def _no_answer(title: str, name: str, error: StepError | psycopg2.Error) -> Finding:
    """Return the finding of a check whose database does not answer."""
    return Finding(title, False, first_line(error).removeprefix(f"{name}: "), DATABASE_FIX, may_pass(error))


@functools.cache
def training_database() -> Finding:
    """The training database answers the deploying role."""
    return _database("training-deployer", "Training database")


@functools.cache
def trainer() -> Finding:
    """The training database answers the training role."""
    return _database("trainer", "Training database, as trainer")


@functools.cache
def inference_database() -> Finding:
    """The inference database answers the deploying role."""
    return _database("inference-deployer", "Inference database")


@functools.cache
def mlflow_server() -> Finding:
    """The tracking server answers."""
    address = os.environ.get("MLFLOW_TRACKING_URI", "")
    fix = "start the local servers with `make start`, or set MLFLOW_TRACKING_URI"
    if not address and os.environ.get("SERVICE_BINDING_ROOT"):
        fix = "set it to your tracking server: with SERVICE_BINDING_ROOT, no local server is used"
    if not address.startswith(("http://", "https://")):
        detail = f"MLFLOW_TRACKING_URI is {address!r}" if address else "MLFLOW_TRACKING_URI is not set"
        return Finding("MLflow", False, detail, fix)
    try:
        with urllib.request.urlopen(f"{address.rstrip('/')}/health", timeout=10) as response:
            return Finding("MLflow", response.status == 200, address, fix)
    except urllib.error.HTTPError as error:
        # A proxy that asks for a login is there too: the client has the credentials, this check does not.
        is_there, is_temporary = error.code in (401, 403), error.code == 429 or error.code >= 500
        return Finding("MLflow", is_there, f"{address} answers {error.code}", fix, is_temporary)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        is_temporary = isinstance(error, OSError) and not isinstance(reason, ssl.SSLCertVerificationError)
        return Finding("MLflow", False, f"{address} does not answer ({reason})", fix, is_temporary)


@functools.cache
def deploying_role() -> Finding:
    """Only a superuser creates functions in plpython3u."""
    title = "Rights of the deploying role"
    try:
        connection = session("training-deployer")
    except (StepError, psycopg2.Error) as error:
        return _no_answer(title, "training-deployer", error)
    with connection:
        user, is_superuser = query(connection, "SELECT rolname, rolsuper FROM pg_roles WHERE rolname = current_user")[0]
    return Finding(
        title,
        is_superuser,
        f"{user} is {'a' if is_superuser else 'not a'} superuser",
        f'as an administrator: ALTER ROLE "{user}" SUPERUSER (undo: NOSUPERUSER), see docs/how-to/greenplum.md',
    )


@functools.cache
def public_schema() -> Finding:
    """Only administrators may create functions in the training database's schema `public`.

    The check fails only when the database does not answer: the pipeline does not search the schema.
    """
    title = "Schema public of the training database"
    try:
        connection = session("training-deployer")
    except (StepError, psycopg2.Error) as error:
        return _no_answer(title, "training-deployer", error)
    with connection:
        is_writable = query(
            connection,
            "SELECT EXISTS (SELECT 1 FROM pg_namespace, aclexplode(nspacl) "
            "WHERE nspname = 'public' AND grantee = 0 AND privilege_type = 'CREATE')",
        )[0][0]
    if is_writable:
        detail = "everybody may create functions there, which other programs may call in place of PostgreSQL's own"
        return Finding(title, True, f"{detail}; as an administrator: REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    return Finding(title, True, "only those who were granted the right create objects there")


@functools.cache
def training_packages() -> Finding:
    """PL/Python in the training database imports TensorFlow, on every segment."""
    return _packages("training-deployer", "training-db", "Python in the training database")


@functools.cache
def inference_packages() -> Finding:
    """PL/Python in the inference database imports ONNX Runtime."""
    return _packages("inference-deployer", "inference-db", "Python in the inference database")


def _packages(name: str, role: str, title: str) -> Finding:
    try:
        connection, address = session(name), binding(name)
    except (StepError, psycopg2.Error) as error:
        return _no_answer(title, name, error)
    try:
        with connection:
            has_extension = bool(query(connection, "SELECT 1 FROM pg_extension WHERE extname = 'plpython3u'"))
            places = _packages_by_place(connection, address, role) if has_extension else []
            path = query(connection, "SELECT current_setting('plpython3.python_path', true)")[0][0]
    except (StepError, psycopg2.Error) as error:
        return Finding(title, False, first_line(error), "see docs/how-to/greenplum.md", may_pass(error))
    if not has_extension:
        return Finding(
            title,
            False,
            f"{address.where} has no extension plpython3u",
            "as a superuser: CREATE EXTENSION plpython3u",
        )
    mistakes = [mistake for place in places for mistake in _mistakes(place, role)]
    if mistakes:
        fix = f"install requirements/{role}.txt for the server's Python, see docs/how-to/greenplum.md"
        if address.is_greenplum and not path:
            fix = "set plpython3.python_path for the database: docs/how-to/greenplum.md"
        return Finding(title, False, "; ".join(mistakes), fix)
    versions = ", ".join(f"{package} {version}" for package, version in places[0]["versions"].items())
    count = f"{len(places)} places, " if len(places) > 1 else ""
    return Finding(title, True, f"{count}Python {places[0]['python']}, {versions}")


def packages_function(address: Binding, role: str, coordinator: bool) -> str:
    """Return the statement that creates python_packages() for the coordinator, or else for the segments."""
    # A SELECT without FROM runs on the coordinator, in every version of Greenplum.
    execute_on = "EXECUTE ON ALL SEGMENTS" if address.is_greenplum and not coordinator else ""
    return PACKAGES_FUNCTION.replace("{execute_on}", execute_on).replace("{packages}", repr(PACKAGES[role]))


def _packages_by_place(connection: Connection, address: Binding, role: str) -> list[Packages]:
    """Return the packages of the one server, or of Greenplum's coordinator and each segment."""
    places: list[Packages] = []
    for coordinator in (True, False) if address.is_greenplum else (True,):
        query(connection, packages_function(address, role, coordinator))
        select = "SELECT pg_temp.python_packages()" if coordinator else "SELECT * FROM pg_temp.python_packages()"
        places += [json.loads(text) for (text,) in query(connection, select)]
        query(connection, "DROP FUNCTION pg_temp.python_packages()")
    return places


def _mistakes(place: Packages, role: str) -> list[str]:
    """Return how the packages of a place differ from the lock file of its role."""
    where = f"segment {place['segment']} ({place['host']})" if place["segment"] else place["host"]
    mistakes = [f"{where}: {package} cannot be imported ({reason})" for package, reason in place["broken"].items()]
    locked = locked_versions(role)
    for package, distribution in PACKAGES[role]:
        version = place["versions"].get(package)
        if version is not None and version not in locked[distribution]:
            mistakes.append(
                f"{where}: {package} is {version}, requirements/{role}.txt says {' or '.join(locked[distribution])}"
            )
    return mistakes


def locked_versions(role: str) -> dict[str, list[str]]:
    """Return the versions per distribution in a lock file; several where they differ by Python version."""
    versions: dict[str, list[str]] = {}
    text = (ROOT / "requirements" / f"{role}.txt").read_text(encoding="utf-8")
    for distribution, version in re.findall(r"^([A-Za-z0-9_.-]+)==(\S+)", text, re.MULTILINE):
        versions.setdefault(distribution, []).append(version)
    return versions


@functools.cache
def controllers() -> Finding:
    """The orchestrator's controllers on the cluster have no known vulnerability."""
    is_there, detail, fix = orchestrator.controllers()
    return Finding(orchestrator.NAME, is_there, detail, fix)


CHECKS = (
    java,
    liquibase_program,
    disk,
    training_database,
    trainer,
    inference_database,
    mlflow_server,
    deploying_role,
    public_schema,
    training_packages,
    inference_packages,
    controllers,
)
