"""Liquibase: brings a database's code to what the changelog says, tags it, and takes it back."""

import os
import re
import shutil
import subprocess
import urllib.parse
from typing import NamedTuple

import psycopg2.extensions

from pipeline.databases import Binding, binding, has_relation, query, session
from pipeline.errors import StepError
from pipeline.settings import ROOT, code_tag, settings

# The tag that the changelogs themselves give to a database in which nothing is deployed.
EMPTY = "empty"


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

    The password travels by environment. Raises StepError when Liquibase is missing or refuses.
    """
    program = shutil.which("liquibase")
    if not program:
        raise StepError("liquibase is not on PATH: run `make install`, or install Liquibase 4.28")
    found = binding(name)
    environment = {
        **os.environ,
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
        raise StepError(f"liquibase {verb} on {found.where} failed: {_reason(done.stderr or done.stdout)}")
    return done.stdout + done.stderr


def _url(found: Binding) -> str:
    """Return the JDBC address; Liquibase keeps its own two tables in the current schema."""
    options = [f"currentSchema=%22{settings().schema}%22", "ApplicationName=liquibase"]
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
