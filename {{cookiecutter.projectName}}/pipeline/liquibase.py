"""Liquibase: brings a database's code to what the changelog says, tags it, and takes it back."""

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
# Liquibase's own variable for how long to wait for its lock.
WAIT_MINUTES = "LIQUIBASE_CHANGELOG_LOCK_WAIT_TIME_IN_MINUTES"
# What Liquibase says when it lost the database.
LOST = re.compile(
    "database system is|terminating connection|connection has been closed|I/O error occurred|Connection to .* refused"
    "|connection attempt failed"
)


class Change(NamedTuple):
    """A deployed change, named as Liquibase names it (file::id::author), and its tag if it ended a deployment."""

    name: str
    tag: str | None


def deploy(name: str, folder: str) -> str:
    """Run `update` with the changelog in `folder` and tag what is new; return the tag now in force.

    A tag stays with the change it was given to: a commit that changes nothing in the database gets none,
    so that every older tag can still be rolled back to. Raises StepError with Liquibase's own reason.
    """
    connection = session(name)
    with connection:
        quoted = psycopg2.extensions.quote_ident(settings().schema, connection)
        exists = query(connection, "SELECT 1 FROM pg_namespace WHERE nspname = %s", (settings().schema,))
        if not exists:
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
    """Return the changes that the database with this binding holds, newest first; none before the first time."""
    connection = session(name)
    with connection:
        if not has_relation(connection, "databasechangelog"):
            return []
        found = query(
            connection,
            "SELECT filename || '::' || id || '::' || author, tag FROM {schema}.databasechangelog "
            "ORDER BY orderexecuted DESC",
        )
    return [Change(*row) for row in found]


def run(name: str, folder: str, *command: str) -> str:
    """Run one Liquibase command with a binding's database; return what it printed.

    The password travels by environment; the lock that Liquibase takes names the pipeline run.
    Raises StepError when Liquibase is missing or refuses, TemporaryError when it lost the database.
    """
    program = shutil.which("liquibase")
    if not program:
        raise StepError("liquibase is not on PATH: run `make install`, or install Liquibase 4.28")
    found = binding(name)
    environment = {
        **os.environ,
        "JAVA_OPTS": f"{os.environ.get('JAVA_OPTS', '')} -Dliquibase.hostDescription={pipeline_run()}".strip(),
        "LIQUIBASE_COMMAND_URL": _url(found),
        "LIQUIBASE_COMMAND_USERNAME": found.username,
        "LIQUIBASE_COMMAND_PASSWORD": found.password,
        "LIQUIBASE_ANALYTICS_ENABLED": "false",
        "LIQUIBASE_SHOW_BANNER": "false",
        "LIQUIBASE_HEADLESS": "true",
        "LIQUIBASE_LOG_LEVEL": "SEVERE",
        "LIQUIBASE_SEARCH_PATH": str(ROOT / folder),
        "LIQUIBASE_COMMAND_CHANGELOG_FILE": "changelog.yaml",
        "LIQUIBASE_COMMAND_CONTEXTS": found.type,
    }
    verb, *options = command
    # Changelog parameters are options of the verbs that read the changelog; `tag` does not.
    parameters = [] if verb in ("tag", "release-locks") else [f"-Dschema={settings().schema}"]
    done = subprocess.run(
        [program, verb, *options, *parameters],
        cwd=ROOT, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        reason = _reason(done.stderr or done.stdout)
        kind = TemporaryError if LOST.search(reason) else StepError
        raise kind(f"liquibase {verb} on {found.where} failed: {reason}")
    return done.stdout + done.stderr


def release_own_lock(name: str) -> bool:
    """Release Liquibase's lock on a binding's database if this pipeline run holds it; return whether it did.

    It does when a step of the run was killed: the run's next try, or finish_run, must not wait for it. What that
    step left in the database is ended first, lest two deploy at once.
    """
    connection = session(name)
    with connection:
        if not has_relation(connection, "databasechangeloglock"):
            return False
        released = query(
            connection,
            "UPDATE {schema}.databasechangeloglock SET locked = FALSE, lockgranted = NULL, lockedby = NULL "
            "WHERE locked AND strpos(lockedby, %s) > 0 RETURNING 1",
            # Liquibase writes host#<hostDescription> (address); a run's name holds neither of the marks.
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
    """Release what a killed step of this run has locked, and wait while anybody else holds Liquibase's lock.

    Liquibase 4.28 waits too, but its `update` releases the lock of others when it gives up or has nothing to do.
    Raises StepError when the lock is held for too long.
    """
    release_own_lock(name)
    given = os.environ.get(WAIT_MINUTES, "5")
    if not re.fullmatch("[0-9]{1,4}", given):
        raise StepError(f"{WAIT_MINUTES} is {given!r}; allowed is a whole number of minutes")
    deadline, told = time.monotonic() + 60 * int(given), False
    while held := _lock(name):
        holder, since = held
        if time.monotonic() >= deadline:
            raise StepError(f"{binding(name).where}: {holder} has held Liquibase's lock since {since}; {_mend(holder)}")
        if not told:
            print(f"{binding(name).where}: waiting for {holder}, who deploys since {since}", file=sys.stderr)
        told = True
        time.sleep(1)


def _lock(name: str) -> tuple[str, str] | None:
    """Return who holds Liquibase's lock, and since when; None when nobody does."""
    connection = session(name)
    with connection:
        if not has_relation(connection, "databasechangeloglock"):
            return None
        found = query(
            connection,
            "SELECT coalesce(lockedby, 'somebody'), coalesce(to_char(lockgranted, 'YYYY-MM-DD HH24:MI:SS'), '?') "
            "FROM {schema}.databasechangeloglock WHERE locked",
        )
    return found[0] if found else None


def _mend(holder: str) -> str:
    run_name = re.search(r"#(\S+) \(", holder)
    release = f"`PIPELINE_RUN={run_name[1]} python -m pipeline finish_run`" if run_name else "Liquibase's release-locks"
    return f"if nothing of it works any more, {release} releases it"


def _session_name() -> str:
    """Return the name of Liquibase's sessions: 63 characters are kept, and a run's last ones are its time."""
    return f"liquibase {pipeline_run()[-53:]}"


def _url(found: Binding) -> str:
    """Return the JDBC address; Liquibase keeps its own two tables in the current schema."""
    options = [f"currentSchema=%22{settings().schema}%22", f"ApplicationName={urllib.parse.quote(_session_name())}"]
    if found.sslmode or found.ca_file:
        options.append(f"sslmode={found.sslmode or 'verify-full'}")
    if found.ca_file:
        options.append(f"sslrootcert={urllib.parse.quote(found.ca_file)}")
    return f"jdbc:postgresql://{found.host}:{found.port}/{found.database}?{'&'.join(options)}"


def _reason(output: str) -> str:
    """Return why, and at which change, as one sentence: Liquibase adds stack traces and hints and repeats itself."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    changes = [line.split(": ", 1)[1] for line in lines if re.match(r"(Running|Rolling Back) Changeset: ", line)]
    where = f" (change {changes[-1]})" if changes else ""
    for line in lines:
        if "Exception Primary Reason:" in line:
            return line.split("Reason:", 1)[1].strip().removeprefix("ERROR: ") + where
    telling = [line for line in lines if "ERROR" in line or "Reason" in line or "Caused by" in line]
    return " ".join((telling or lines or ["no reason given"])[:2])
