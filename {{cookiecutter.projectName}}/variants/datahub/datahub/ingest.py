"""Brings databases, source files and the model's lineage into DataHub: `python datahub/ingest.py [RECIPE …]`.

A recipe is a file of this folder; all of them without a name. With $DATAHUB_GMS_URL (and $DATAHUB_GMS_TOKEN) they go
to that DataHub, otherwise each into a file of datahub/out. Names and passwords come from the service bindings and
travel by environment alone.
"""

# As a script: its own folder comes first on the path, so the package datahub is DataHub's.

import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Mapping

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.append(str(ROOT))
try:
    import names
    import yaml

    from pipeline.databases import binding, connect
    from pipeline.errors import StepError
    from pipeline.settings import settings
    from pipeline.tracking import IMPATIENT
except ModuleNotFoundError as error:
    sys.exit(
        f"error: {error.name} is not installed here: run it as "
        "`/usr/bin/python3 -m local run --environment datahub -- python datahub/ingest.py`"
    )

RECIPES = ("training", "inference", "source-files", "model")
OUT = HERE / "out"


def main(chosen: list[str]) -> None:
    """Run the recipes one after the other; a mistake is told in one sentence."""
    try:
        unknown = [name for name in chosen if name not in RECIPES]
        if unknown:
            raise StepError(f"there is no recipe {unknown[0]!r}; allowed is {', '.join(RECIPES)}")
        environment = _environment()
        for name in chosen or RECIPES:
            print(f"{name}: {ingest(name, environment)}", flush=True)
    except StepError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {error.filename or OUT} cannot be written: {error.strerror}")


def ingest(name: str, environment: Mapping[str, str]) -> str:
    """Run `datahub ingest` on one recipe and return where its records are.

    What it says lies in datahub/out/<name>.log. Raises StepError, with DataHub's reason where it failed.
    """
    recipe = yaml.safe_load((HERE / f"{name}.yaml").read_text(encoding="utf-8"))
    OUT.mkdir(exist_ok=True)
    where = environment.get("DATAHUB_GMS_URL", "")
    if not where:
        where = str(OUT / f"{name}.json")
        recipe["sink"] = {"type": "file", "config": {"filename": where}}
    variables = {**environment, **(_database(names.ROLES[name]) if name in names.ROLES else {})}
    log = OUT / f"{name}.log"
    program = pathlib.Path(sys.executable).with_name("datahub")
    with log.open("w", encoding="utf-8") as output:
        done = subprocess.run(
            [program, "ingest", "run", "--no-progress", "--config", "-"],
            cwd=ROOT, env=variables, input=yaml.safe_dump(recipe), stdout=output, stderr=output, text=True,
        )  # fmt: skip
    if done.returncode:
        raise StepError(f"`datahub ingest` failed on {name}.yaml: {_reason(log)} (all of it: {log})")
    return where


def _reason(log: pathlib.Path) -> str:
    """Return why DataHub failed: the first error it logged, or its last line where it logged none."""
    told = log.read_text(encoding="utf-8").strip()
    errors = re.findall(r" ERROR +\{[^}]*\} - (.+)", told)
    return (errors or told.splitlines()[-1:] or ["it said nothing"])[0].rpartition(" => ")[2]


def _environment() -> dict[str, str]:
    """Return what the recipes and the sources of this folder read."""
    source = settings().source
    told = {
        "PROJECT_NAME": settings().project_name,
        "PROJECT_SCHEMA": settings().schema,
        "PROJECT_OWNER": settings().owner,
        # Patterns.
        "SOURCE_SCHEMA": re.escape(source.schema if source else settings().schema),
        "SOURCE_TABLE": re.escape(source.table) if source else "[^.]*",
        # A file has nothing to add to; what people tagged in a DataHub stays.
        "DATAHUB_SEMANTICS": "PATCH" if os.environ.get("DATAHUB_GMS_URL") else "OVERWRITE",
        "DATAHUB_TELEMETRY_ENABLED": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        **IMPATIENT,
        "PYTHONPATH": os.pathsep.join([str(HERE), str(ROOT)]),
    }
    return {**os.environ, **told}


def _database(role: str) -> dict[str, str]:
    """Return a binding as libpq's variables, and its type. Raises StepError when the database does not answer."""
    connect(role).close()
    found = binding(role)
    tls = {"PGSSLMODE": found.sslmode} if found.sslmode else {}
    if found.ca_file:
        tls = {"PGSSLMODE": found.sslmode or "verify-full", "PGSSLROOTCERT": found.ca_file}
    address = {"PGHOST": found.host, "PGPORT": found.port, "PGDATABASE": found.database}
    return {**address, **tls, "PGUSER": found.username, "PGPASSWORD": found.password, "BINDING_TYPE": found.type}


if __name__ == "__main__":
    main(sys.argv[1:])
