"""Liquibase: deploy a changelog to a database, tag the deployment, and roll it back."""

import os
import re
import shutil
import subprocess
import sys
import time
import urllib.parse
from typing import NamedTuple

import psycopg2.extensions

from pipeline import checksums
from pipeline.databases import Binding, binding, has_relation, query, session
from pipeline.errors import StepError, TemporaryError
from pipeline.run_identity import code_tag, pipeline_run
from pipeline.settings import ROOT, settings

# The tag that the changelogs themselves give to a database in which nothing is deployed.
EMPTY = "empty"
# Default options of the JVM, which the variable JAVA_OPTS replaces. Liquibase ends before the compilation by C2 pays
# off: without C2 it uses half the processor time.
JAVA_OPTS = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
# Liquibase's own variable: minutes to wait for its lock.
WAIT_MINUTES = "LIQUIBASE_CHANGELOG_LOCK_WAIT_TIME_IN_MINUTES"
# Liquibase's messages for a lost database.
LOST = re.compile(
    "database system is|terminating connection|connection has been closed|I/O error occurred|Connection to .* refused"
    "|connection attempt failed"
)


class Change(NamedTuple):
    """A deployed change with Liquibase's name for it (file::id::author), and its tag if it ended a deployment."""

    name: str
    tag: str | None


class Lock(NamedTuple):
    """Liquibase's lock: host#<pipeline run> (address) of its holder, and the time when it was taken."""

    holder: str
    since: str


def deploy(name: str, folder: str) -> str:
    """Run `update` with the changelog in `folder`, tag new changes, and return the tag now in force.

    A tag never moves to another change: a commit that changes nothing in the database gets none, so every older tag
    remains a target of a rollback. Raises StepError with Liquibase's reason.
    """
    connection = session(name)
    with connection:
        quoted = psycopg2.extensions.quote_ident(settings().schema, connection)
        schema_exists = query(connection, "SELECT 1 FROM pg_namespace WHERE nspname = %s", (settings().schema,))
        if not schema_exists:
            query(connection, f"CREATE SCHEMA {quoted}")
    take_turn(name)
    checksums.accept_present_texts(connection)
    run(name, folder, "update")
    tag = deployed(name)[0].tag
    if not tag:
        tag = code_tag(folder)
        run(name, folder, "tag", f"--tag={tag}")
    return tag


def deployed(name: str) -> list[Change]:
    """Return the deployed changes of a binding's database, newest first; none before the first deployment."""
    connection = session(name)
    with connection:
        if not has_relation(connection, "databasechangelog"):
            return []
        rows = query(
            connection,
            "SELECT filename || '::' || id || '::' || author, tag FROM {schema}.databasechangelog "
            "ORDER BY orderexecuted DESC",
        )
    return [Change(*row) for row in rows]


def run(name: str, folder: str, *command: str) -> str:
    """Run one Liquibase command with a binding's database and return its output.

    The password travels by environment; the lock that Liquibase takes names the pipeline run.
    Raises StepError when Liquibase is missing or refuses, TemporaryError when it lost the database.
    """
    program = shutil.which("liquibase")
    if not program:
        raise StepError("liquibase is not on PATH: run `make install`, or install Liquibase 4.28")
    address = binding(name)
    environment = {
        **os.environ,
        "JAVA_OPTS": f"{os.environ.get('JAVA_OPTS', JAVA_OPTS)} -Dliquibase.hostDescription={pipeline_run()}".strip(),
        "LIQUIBASE_COMMAND_URL": _url(address),
        "LIQUIBASE_COMMAND_USERNAME": address.username,
        "LIQUIBASE_COMMAND_PASSWORD": address.password,
        # In the locale C, Java opens no file whose path is not ASCII.
        "LC_ALL": "C.UTF-8",
        "LIQUIBASE_ANALYTICS_ENABLED": "false",
        "LIQUIBASE_SHOW_BANNER": "false",
        "LIQUIBASE_HEADLESS": "true",
        "LIQUIBASE_LOG_LEVEL": "SEVERE",
        "LIQUIBASE_SEARCH_PATH": str(ROOT / folder),
        "LIQUIBASE_COMMAND_CHANGELOG_FILE": "changelog.yaml",
        "LIQUIBASE_COMMAND_CONTEXTS": address.type,
    }
    verb, *options = command
    # Only verbs that read the changelog take its parameters.
    parameters = [] if verb in ("tag", "release-locks") else [f"-Dschema={settings().schema}"]
    completed = subprocess.run(
        [program, verb, *options, *parameters],
        cwd=ROOT, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    if completed.returncode:
        reason = _reason(completed.stderr or completed.stdout)
        exception = TemporaryError if LOST.search(reason) else StepError
        raise exception(f"liquibase {verb} on {address.where} failed: {reason}")
    return completed.stdout + completed.stderr


def release_own_lock(name: str) -> bool:
    """Release Liquibase's lock on a binding's database if this pipeline run holds it; return whether it did.

    A killed step leaves the lock behind, and the run's next try must not wait for it. The killed step's sessions are
    terminated too, so that no two deploy at once.
    """
    connection = session(name)
    with connection:
        if not has_relation(connection, "databasechangeloglock"):
            return False
        released = query(
            connection,
            "UPDATE {schema}.databasechangeloglock SET locked = FALSE, lockgranted = NULL, lockedby = NULL "
            "WHERE locked AND strpos(lockedby, %s) > 0 RETURNING 1",
            # Liquibase writes host#<hostDescription> (address); a run's name contains neither `#` nor ` (`.
            (f"#{pipeline_run()} (",),
        )
        if released:
            query(
                connection,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND usename = current_user AND application_name = %s",
                (_session_name(),),
            )
    return bool(released)


def take_turn(name: str) -> None:
    """Release the lock of a killed step of this run, and wait while another run holds Liquibase's lock.

    Liquibase 4.28 waits too, but its `update` releases the lock of others when it gives up or has nothing to do.
    Raises StepError when the lock is held for too long.
    """
    release_own_lock(name)
    minutes = os.environ.get(WAIT_MINUTES, "5")
    if not re.fullmatch("[0-9]{1,4}", minutes):
        raise StepError(f"{WAIT_MINUTES} is {minutes!r}; allowed is a whole number of minutes")
    deadline, is_announced = time.monotonic() + 60 * int(minutes), False
    while lock := _lock(name):
        where = binding(name).where
        if time.monotonic() >= deadline:
            raise StepError(
                f"{where}: {lock.holder} has held Liquibase's lock since {lock.since}; {_release_hint(lock.holder)}"
            )
        if not is_announced:
            print(f"{where}: waiting for {lock.holder}, deploying since {lock.since}", file=sys.stderr)
            is_announced = True
        time.sleep(1)


def _lock(name: str) -> Lock | None:
    """Return Liquibase's lock on a binding's database, None when nobody holds it."""
    connection = session(name)
    with connection:
        if not has_relation(connection, "databasechangeloglock"):
            return None
        rows = query(
            connection,
            "SELECT coalesce(lockedby, 'somebody'), coalesce(to_char(lockgranted, 'YYYY-MM-DD HH24:MI:SS'), '?') "
            "FROM {schema}.databasechangeloglock WHERE locked",
        )
    return Lock(*rows[0]) if rows else None


def _release_hint(holder: str) -> str:
    """Return the command that releases the lock of a run that no longer exists."""
    run_name = re.search(r"#(\S+) \(", holder)
    release = f"`PIPELINE_RUN={run_name[1]} ./run finish_run`" if run_name else "Liquibase's release-locks"
    return f"if that run has ended, {release} releases it"


def _session_name() -> str:
    """Return the name of Liquibase's sessions: PostgreSQL keeps 63 characters, and a run's name ends in its time."""
    return f"liquibase {pipeline_run()[-53:]}"


def _url(address: Binding) -> str:
    """Return the JDBC address; Liquibase's own two tables lie in the current schema."""
    options = [f"currentSchema=%22{settings().schema}%22", f"ApplicationName={urllib.parse.quote(_session_name())}"]
    if address.sslmode or address.ca_file:
        options.append(f"sslmode={address.sslmode or 'verify-full'}")
    if address.ca_file:
        options.append(f"sslrootcert={urllib.parse.quote(address.ca_file)}")
    return f"jdbc:postgresql://{address.host}:{address.port}/{address.database}?{'&'.join(options)}"


def _reason(output: str) -> str:
    """Return Liquibase's reason and change as one sentence, without its stack traces, hints and repetitions."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    changes = [line.split(": ", 1)[1] for line in lines if re.match(r"(Running|Rolling Back) Changeset: ", line)]
    where = f" (change {changes[-1]})" if changes else ""
    for line in lines:
        if "Exception Primary Reason:" in line:
            return line.split("Reason:", 1)[1].strip().removeprefix("ERROR: ") + where
    reasons = [line for line in lines if "ERROR" in line or "Reason" in line or "Caused by" in line]
    return " ".join((reasons or lines or ["no reason given"])[:2])
