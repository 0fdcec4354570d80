"""Open psql with the binding of a role.

`./run psql [ROLE] [options of psql]`: roles are training-deployer, trainer, inference-deployer and inference-app, which
is the default.
"""

import os
import shutil

from pipeline.databases import TYPES, binding
from pipeline.errors import StepError
from pipeline.settings import settings


def main(role: str = "inference-app", *options: str) -> None:
    """Replace this process by psql, with the project's schema first in its search path. Raises StepError.

    The password travels by environment.
    """
    if role not in TYPES:
        raise StepError(f"there is no role {role}; there are {', '.join(TYPES)}")
    address, schema = binding(role), settings().schema
    program = shutil.which("psql")
    if not program:
        raise StepError("psql is not on PATH: sudo apt-get install -y postgresql-client")
    environment = {
        **os.environ,
        "PGHOST": address.host,
        "PGPORT": address.port,
        "PGDATABASE": address.database,
        "PGUSER": address.username,
        "PGPASSWORD": address.password,
        "PGOPTIONS": f'-c search_path="{schema}",public',
        **({"PGSSLMODE": address.sslmode} if address.sslmode else {}),
        **({"PGSSLROOTCERT": address.ca_file} if address.ca_file else {}),
    }
    os.execve(program, ["psql", *options], environment)
