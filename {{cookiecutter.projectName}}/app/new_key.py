"""Makes an API key: `python -m app.new_key SUBJECT --roles predict,label`.

The key goes to standard output, once. Standard error says where the line with its hash goes. Nothing is stored.
"""

import argparse
import secrets
import sys
from collections.abc import Sequence

from app.api_keys import RESERVED, SUBJECT, TYPE, line
from app.subjects import ROLES

# 256 bits: nobody guesses them, so a fast hash protects the key.
BYTES = 32


def main(arguments: Sequence[str]) -> int:
    """Print a new key and its line; return the exit status."""
    parser = argparse.ArgumentParser("python -m app.new_key", description="Makes an API key.")
    parser.add_argument("subject", help="the person or program that uses the key; the log and the database name it")
    parser.add_argument("--roles", default="predict,label", help=f"some of {','.join(ROLES)} (default: %(default)s)")
    chosen = parser.parse_args(arguments)
    roles = tuple(dict.fromkeys(chosen.roles.split(",")))
    if not SUBJECT.fullmatch(chosen.subject):
        parser.error(
            f"the subject is {chosen.subject!r}; allowed are up to 63 lower-case letters, digits, '.', '_' and '-', "
            "the first of them a letter or a digit"
        )
    if chosen.subject in RESERVED:
        parser.error(f"the subject is {chosen.subject!r}, which stands for requests without a key: choose another")
    if chosen.subject == TYPE:
        parser.error("the subject is 'type', which is the name of another file: choose a different one")
    if not set(roles) <= set(ROLES):
        parser.error(f"the roles are {chosen.roles!r}; allowed are {', '.join(ROLES)}, separated by commas")
    key = secrets.token_urlsafe(BYTES)
    print(
        f"Add this line to the file {chosen.subject} of the service binding api-keys. The key itself is on standard "
        f"output; nothing keeps it.\n{line(key, roles)}",
        file=sys.stderr,
    )
    print(key)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
