"""Ingests databases, source files and the model's lineage into DataHub: `python datahub/ingest.py [RECIPE …]`.

A recipe is a YAML file in this folder; without an argument all of them run. The records go to the DataHub at
$DATAHUB_GMS_URL (with $DATAHUB_GMS_TOKEN), or into files in datahub/out without that variable. Addresses and passwords
come from the service bindings and are passed in the environment only.
"""

# DataHub's package is missing in the environment of the type checker.
# mypy: disable-error-code="import-not-found", allow-subclassing-any, allow-untyped-decorators

# Run as a script: this folder, not its parent, comes first on the path, so `import datahub` imports DataHub's package.

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
    """Run the recipes one after the other, or exit with a one-line error."""
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
    """Run `datahub ingest` on one recipe and return the address or file that its records went to.

    The output goes to datahub/out/<name>.log. Raises StepError with DataHub's reason.
    """
    recipe = yaml.safe_load((HERE / f"{name}.yaml").read_text(encoding="utf-8"))
    OUT.mkdir(exist_ok=True)
    destination = environment.get("DATAHUB_GMS_URL", "")
    if not destination:
        destination = str(OUT / f"{name}.json")
        recipe["sink"] = {"type": "file", "config": {"filename": destination}}
    variables = {**environment, **(_database(names.ROLES[name]) if name in names.ROLES else {})}
    log = OUT / f"{name}.log"
    program = pathlib.Path(sys.executable).with_name("datahub")
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.run(
            [program, "ingest", "run", "--no-progress", "--config", "-"],
            cwd=ROOT, env=variables, input=yaml.safe_dump(recipe), stdout=output, stderr=output, text=True,
        )  # fmt: skip
    if process.returncode:
        raise StepError(f"`datahub ingest` failed on {name}.yaml: {_reason(log)} (full log: {log})")
    return destination


def _reason(log: pathlib.Path) -> str:
    """Return the first error in the log, or its last line if there is none."""
    text = log.read_text(encoding="utf-8").strip()
    errors = re.findall(r" ERROR +\{[^}]*\} - (.+)", text)
    return str((errors or text.splitlines()[-1:] or ["its log is empty"])[0].rpartition(" => ")[2])


def _environment() -> dict[str, str]:
    """Return the environment that the recipes and the sources in this folder read."""
    source = settings().source
    variables = {
        "PROJECT_NAME": settings().project_name,
        "PROJECT_SCHEMA": settings().schema,
        "PROJECT_OWNER": settings().owner,
        # Regular expressions.
        "SOURCE_SCHEMA": re.escape(source.schema if source else settings().schema),
        "SOURCE_TABLE": re.escape(source.table) if source else "[^.]*",
        # PATCH keeps the tags that people set in DataHub; a file has none to keep.
        "DATAHUB_SEMANTICS": "PATCH" if os.environ.get("DATAHUB_GMS_URL") else "OVERWRITE",
        "DATAHUB_TELEMETRY_ENABLED": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        **IMPATIENT,
        "PYTHONPATH": os.pathsep.join([str(HERE), str(ROOT)]),
    }
    return {**os.environ, **variables}


def _database(role: str) -> dict[str, str]:
    """Return a binding as libpq's variables, and its type. Raises StepError if the database does not answer."""
    connect(role).close()
    bound = binding(role)
    tls = {"PGSSLMODE": bound.sslmode} if bound.sslmode else {}
    if bound.ca_file:
        tls = {"PGSSLMODE": bound.sslmode or "verify-full", "PGSSLROOTCERT": bound.ca_file}
    address = {"PGHOST": bound.host, "PGPORT": bound.port, "PGDATABASE": bound.database}
    return {**address, **tls, "PGUSER": bound.username, "PGPASSWORD": bound.password, "BINDING_TYPE": bound.type}


if __name__ == "__main__":
    main(sys.argv[1:])
