"""Opens psql: `make psql` in the inference database as the app would, with `ROLE=trainer` in the training database."""

import os
import shutil
import sys

from pipeline.databases import TYPES, binding
from pipeline.errors import StepError
from pipeline.settings import settings


def main() -> None:
    """Become psql, with a role's binding and the project's schema; the password travels by environment.

    The first argument names the role, inference-app where there is none; the others are psql's.
    """
    role, *options = sys.argv[1:] or ["inference-app"]
    if role not in TYPES:
        sys.exit(f"error: there is no role {role}; there are {', '.join(TYPES)}")
    try:
        found, schema = binding(role), settings().schema
    except StepError as error:
        sys.exit(f"error: {error}")
    program = shutil.which("psql")
    if not program:
        sys.exit("error: psql is not on PATH: sudo apt-get install -y postgresql-client")
    environment = {
        **os.environ,
        "PGHOST": found.host,
        "PGPORT": found.port,
        "PGDATABASE": found.database,
        "PGUSER": found.username,
        "PGPASSWORD": found.password,
        "PGOPTIONS": f'-c search_path="{schema}",public',
        **({"PGSSLMODE": found.sslmode} if found.sslmode else {}),
        **({"PGSSLROOTCERT": found.ca_file} if found.ca_file else {}),
    }
    os.execve(program, ["psql", *options], environment)


if __name__ == "__main__":
    main()
