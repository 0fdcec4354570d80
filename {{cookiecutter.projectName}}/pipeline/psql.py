"""Opens psql in the inference database as the app would: `make psql`."""

import os
import shutil
import sys

from pipeline.databases import binding
from pipeline.errors import StepError
from pipeline.settings import settings


def main() -> None:
    """Become psql, with the app's binding and the project's schema; the password travels by environment."""
    try:
        found = binding("inference-app")
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
        "PGOPTIONS": f'-c search_path="{settings().schema}"',
        **({"PGSSLMODE": found.sslmode} if found.sslmode else {}),
        **({"PGSSLROOTCERT": found.ca_file} if found.ca_file else {}),
    }
    os.execve(program, ["psql", *sys.argv[1:]], environment)


if __name__ == "__main__":
    main()
