"""List missing parts, each with its fix."""

import psycopg2

from pipeline import doctor
from pipeline.databases import first_line
from pipeline.doctor import Finding
from pipeline.errors import StepError
from pipeline.settings import settings


def main() -> None:
    """Print the result of every check. Exits with status 1 when something is missing; raises StepError."""
    print(f"{settings().project_name} needs:")
    missing = 0
    for check in doctor.CHECKS:
        try:
            finding = check()
        except (StepError, psycopg2.Error) as error:
            finding = Finding((check.__doc__ or check.__name__).splitlines()[0].rstrip("."), False, first_line(error))
        missing += not finding.is_there
        print(finding, flush=True)
    print(f"{missing} missing" if missing else "nothing is missing")
    if missing:
        raise SystemExit(1)
