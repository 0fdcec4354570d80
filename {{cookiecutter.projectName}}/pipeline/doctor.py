"""What the project needs, whether it is there, and the command that mends it.

`python -m pipeline.doctor` prints the list; each step asks for the parts that it needs before it begins.
"""

import dataclasses
import functools
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import psycopg2

from pipeline.databases import Binding, binding, first_line, may_pass, query, session
from pipeline.errors import StepError, TemporaryError
from pipeline.settings import ROOT, settings

DISK_GIB = 2
# Imported once in each place where a function of the project will run: what a package's metadata says is
# there may still not load. TensorFlow's threads must not receive PostgreSQL's signals.
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
found, broken = dict(), dict()
keep = signal.SIGSEGV, signal.SIGFPE, signal.SIGBUS, signal.SIGILL, signal.SIGABRT, signal.SIGKILL, signal.SIGSTOP
before = signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals) - set(keep))
try:
    for package, distribution in {packages}:
        try:
            importlib.import_module(package)
            found[package] = importlib.metadata.version(distribution)
        except Exception as error:
            broken[package] = type(error).__name__ + ": " + str(error)
finally:
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
segment = plpy.execute("SELECT current_setting('gp_contentid', true) AS segment")[0]["segment"]
return [json.dumps(dict(
    host=socket.gethostname(), segment=segment, python=platform.python_version(), found=found, broken=broken
))]
$python$
"""
PACKAGES = {
    "training-db": (("numpy", "numpy"), ("tensorflow", "tensorflow-cpu"), ("keras", "keras")),
    "inference-db": (("numpy", "numpy"), ("onnxruntime", "onnxruntime")),
}


@dataclasses.dataclass(frozen=True)
class Finding:
    """One line of the doctor: what was looked for, whether it is there, what mends it, whether time may, too."""

    name: str
    found: bool
    detail: str
    mend: str = ""
    temporary: bool = False

    def __str__(self) -> str:
        line = f"{'found  ' if self.found else 'missing'}  {self.name}: {self.detail}"
        return line if self.found or not self.mend else f"{line}\n         mend: {self.mend}"


def require(*checks: Callable[[], Finding]) -> None:
    """Run the checks; raise StepError with the first part that is missing and what mends it, TemporaryError if it is
    only away."""
    for check in checks:
        finding = check()
        if not finding.found:
            kind = TemporaryError if finding.temporary else StepError
            raise kind(f"{finding.name}: {finding.detail}; {finding.mend}")


@functools.cache
def java() -> Finding:
    """Java 17 or later, for Liquibase."""
    mend = "install it: sudo apt-get install -y default-jre-headless"
    program = shutil.which("java")
    if not program:
        return Finding("Java", False, "java is not on PATH", mend)
    told = subprocess.run([program, "-version"], capture_output=True, text=True).stderr
    version = re.search(r'version "(\d+)', told)
    good = version is not None and int(version[1]) >= 17
    return Finding("Java", good, told.splitlines()[0] if told else "no version", mend)


@functools.cache
def liquibase_program() -> Finding:
    """Liquibase is on PATH."""
    mend = "run `make install`, or put Liquibase 4.28 on PATH"
    program = shutil.which("liquibase")
    if not program:
        return Finding("Liquibase", False, "liquibase is not on PATH", mend)
    # Asking for its version would start Java for a second, at each step.
    return Finding("Liquibase", True, program, mend)


@functools.cache
def disk() -> Finding:
    """Room for data, models and MLflow's files."""
    free = shutil.disk_usage(ROOT).free / 2**30
    return Finding("Disk", free >= DISK_GIB, f"{free:.1f} GiB free at {ROOT}", f"free {DISK_GIB} GiB")


def _database(name: str, title: str) -> Finding:
    mend = "start the local servers with `make start`, or correct the service binding"
    # What is wrong in project.yaml is mended there: it raises StepError.
    settings()
    try:
        where = binding(name).where
        connection = session(name)
        with connection:
            version = query(connection, "SELECT version()")[0][0]
    except (StepError, psycopg2.Error) as error:
        return Finding(title, False, first_line(error).removeprefix(f"{name}: "), mend, may_pass(error))
    return Finding(title, True, f"{where}, {version.split(' on ')[0]}")


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
    mend = "start the local servers with `make start`, or set MLFLOW_TRACKING_URI"
    if not address.startswith(("http://", "https://")):
        told = f"MLFLOW_TRACKING_URI is {address!r}" if address else "MLFLOW_TRACKING_URI is not set"
        return Finding("MLflow", False, told, mend)
    try:
        with urllib.request.urlopen(f"{address.rstrip('/')}/health", timeout=10) as answer:
            return Finding("MLflow", answer.status == 200, address, mend)
    except urllib.error.HTTPError as error:
        # A proxy that asks for a login answers too: the client knows the credentials, this check does not.
        found, away = error.code in (401, 403), error.code == 429 or error.code >= 500
        return Finding("MLflow", found, f"{address} answers {error.code}", mend, away)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        away = isinstance(error, OSError) and not isinstance(reason, ssl.SSLCertVerificationError)
        return Finding("MLflow", False, f"{address} does not answer ({reason})", mend, away)


@functools.cache
def deploying_role() -> Finding:
    """Only a superuser creates functions in plpython3u."""
    connection = session("training-deployer")
    with connection:
        user, superuser = query(connection, "SELECT rolname, rolsuper FROM pg_roles WHERE rolname = current_user")[0]
    return Finding(
        "Rights of the deploying role",
        superuser,
        f"{user} is {'a' if superuser else 'not a'} superuser",
        f'as an administrator: ALTER ROLE "{user}" SUPERUSER (undo: NOSUPERUSER), see docs/greenplum.md',
    )


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
        found, connection = binding(name), session(name)
        with connection:
            extension = query(connection, "SELECT 1 FROM pg_extension WHERE extname = 'plpython3u'")
            answers = _ask_for_packages(connection, found, role) if extension else []
            path = query(connection, "SELECT current_setting('plpython3.python_path', true)")[0][0]
    except (StepError, psycopg2.Error) as error:
        return Finding(title, False, first_line(error), "see docs/greenplum.md", may_pass(error))
    if not extension:
        return Finding(
            title,
            False,
            f"{found.where} has no extension plpython3u",
            "as a superuser: CREATE EXTENSION plpython3u",
        )
    wrong = [line for answer in answers for line in _wrong(answer, role)]
    mend = f"install requirements/{role}.txt for the server's Python, see docs/greenplum.md"
    if found.is_greenplum and not path:
        mend = "set plpython3.python_path for the database: docs/greenplum.md"
    if wrong:
        return Finding(title, False, "; ".join(wrong), mend)
    versions = ", ".join(f"{package} {version}" for package, version in answers[0]["found"].items())
    places = f"{len(answers)} places, " if len(answers) > 1 else ""
    return Finding(title, True, f"{places}Python {answers[0]['python']}, {versions}")


def packages_function(found: Binding, role: str, coordinator: bool) -> str:
    """Return the statement that creates the asking function, for one kind of place to run in."""
    execute_on = ""
    if found.is_greenplum:
        execute_on = "EXECUTE ON COORDINATOR" if coordinator else "EXECUTE ON ALL SEGMENTS"
    return PACKAGES_FUNCTION.replace("{execute_on}", execute_on).replace("{packages}", repr(PACKAGES[role]))


def _ask_for_packages(connection: Any, found: Binding, role: str) -> list[dict[str, Any]]:
    """Ask every place where functions run: the one server, or Greenplum's coordinator and each segment."""
    answers = []
    for coordinator in (True, False) if found.is_greenplum else (True,):
        query(connection, packages_function(found, role, coordinator))
        answers += [json.loads(text) for (text,) in query(connection, "SELECT * FROM pg_temp.python_packages()")]
        query(connection, "DROP FUNCTION pg_temp.python_packages()")
    return answers


def _wrong(answer: dict[str, Any], role: str) -> list[str]:
    """Say what a place lacks, against the lock file of its role."""
    where = f"segment {answer['segment']} ({answer['host']})" if answer["segment"] else answer["host"]
    told = [f"{where}: {package} cannot be imported ({reason})" for package, reason in answer["broken"].items()]
    locked = locked_versions(role)
    for package, distribution in PACKAGES[role]:
        version = answer["found"].get(package)
        if version is not None and version not in locked[distribution]:
            told.append(
                f"{where}: {package} is {version}, requirements/{role}.txt says {' or '.join(locked[distribution])}"
            )
    return told


def locked_versions(role: str) -> dict[str, list[str]]:
    """Return the versions a lock file allows a distribution; several where they differ by Python version."""
    versions: dict[str, list[str]] = {}
    text = (ROOT / "requirements" / f"{role}.txt").read_text(encoding="utf-8")
    for distribution, version in re.findall(r"^([A-Za-z0-9_.-]+)==(\S+)", text, re.MULTILINE):
        versions.setdefault(distribution, []).append(version)
    return versions


CHECKS = (
    java,
    liquibase_program,
    disk,
    training_database,
    trainer,
    inference_database,
    mlflow_server,
    deploying_role,
    training_packages,
    inference_packages,
)


def main() -> int:
    """Print all findings; return 1 when something is missing."""
    try:
        print(f"{settings().project_name} needs:")
    except StepError as error:
        print(error, file=sys.stderr)
        return 1
    missing = 0
    for check in CHECKS:
        try:
            finding = check()
        except (StepError, psycopg2.Error) as error:
            finding = Finding(check.__doc__.splitlines()[0].rstrip("."), False, first_line(error))
        missing += not finding.found
        print(finding, flush=True)
    print(f"{missing} missing" if missing else "nothing is missing")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
