"""The tracking server as a team has it: runs in a PostgreSQL cluster of its own, artifacts in an S3 store.

MLFLOW_ARTIFACTS_DESTINATION=s3://… chooses it, once per state folder; state.json keeps the variables (0600), so that
later commands need no key. The server alone has the keys: the steps send artifacts to it.
"""

import configparser
import hashlib
import os
import pathlib
import re
import subprocess
from collections.abc import Mapping, Sequence

from local import environments
from local.clusters import SET_UP, Cluster
from local.errors import LocalError
from local.mlflow_server import MlflowServer
from local.processes import clean_environment
from local.state import PROJECT, State, write

ROLE = "mlflow-server"
DESTINATION = "MLFLOW_ARTIFACTS_DESTINATION"
ENDPOINT = "MLFLOW_S3_ENDPOINT_URL"
AUTHORITY = "AWS_CA_BUNDLE"
# Of the caller's variables these are the server's, and no step's, where a destination is given.
OURS = re.compile(r"AWS_\w+|MLFLOW_S3_\w+|MLFLOW_BOTO_\w+|MLFLOW_ARTIFACTS_DESTINATION")
# libpq's variables name host, database and password: no password stands in an address.
STORE = "postgresql+psycopg2://"
CHECK = PROJECT / "deploy" / "mlflow" / "check_stores.py"
SECONDS_TO_CHECK = 60


def from_environment() -> dict[str, str]:
    """Return the variables of the S3 store that the caller chose, none where it chose none. Raises LocalError."""
    destination = os.environ.get(DESTINATION, "")
    if not destination:
        return {}
    if not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^\s?#]*)?", destination):
        raise LocalError(f"{DESTINATION} is {destination!r}: allowed is s3://BUCKET or s3://BUCKET/PATH")
    endpoint = os.environ.get(ENDPOINT, "")
    if endpoint and not re.fullmatch(r"https?://[^\s@/?#]+/?", endpoint):
        raise LocalError(f"{ENDPOINT} is not an address: allowed is http(s)://HOST or http(s)://HOST:PORT alone")
    return _with_keys_of_file({name: value for name, value in os.environ.items() if OURS.fullmatch(name) and value})


def _with_keys_of_file(variables: dict[str, str]) -> dict[str, str]:
    """Put a credentials file's keys in its place: the server's user may be one who cannot read it."""
    file = variables.pop("AWS_SHARED_CREDENTIALS_FILE", "")
    profile = variables.pop("AWS_PROFILE", "default")
    if not file:
        return variables
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(pathlib.Path(file).read_text(encoding="utf-8"))
    except (OSError, UnicodeError, configparser.Error) as error:
        reason = getattr(error, "strerror", None) or "it is not in AWS's format"
        raise LocalError(f"AWS_SHARED_CREDENTIALS_FILE {file} cannot be read: {reason}") from None
    if not parser.has_section(profile):
        raise LocalError(f"AWS_SHARED_CREDENTIALS_FILE {file} has no profile [{profile}]: choose one with AWS_PROFILE")
    keys = {name.upper(): value for name, value in parser[profile].items()}
    return {**{name: value for name, value in keys.items() if OURS.fullmatch(name)}, **variables}


def chosen(state: State) -> dict[str, str]:
    """Return the server's variables for its S3 store: the caller's, else those of the last start. Raises LocalError.

    Another destination than before would leave runs and models behind, and is refused.
    """
    last, now = state.variables("mlflow"), from_environment()
    if now and now[DESTINATION] != last.get(DESTINATION) and (state.folder / "mlflow" / "data").exists():
        before = last.get(DESTINATION, "a folder, and its runs in SQLite")
        raise LocalError(
            f"this project's MLflow server keeps its artifacts in {before}: run `make down`, which removes its runs, "
            f"or set LOCAL_STATE to a new folder, before {DESTINATION} names another place"
        )
    return now or last


def without_keys(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment for the steps, without the variables of the server alone."""
    if not environment.get(DESTINATION):
        return dict(environment)
    return {name: value for name, value in environment.items() if not OURS.fullmatch(name)}


def complaint(python: pathlib.Path, variables: Mapping[str, str]) -> str:
    """Return why a store does not work, as one sentence; nothing when all is well."""
    # Without the script's folder on the path.
    command = [str(python / "bin" / "python"), "-P", str(CHECK)]
    # The server finds no keys in the home of who starts it, so neither may the check.
    environment = {**clean_environment(HOME="/nonexistent"), **variables}
    try:
        completed = subprocess.run(
            command, env=environment, cwd="/", capture_output=True, text=True, timeout=SECONDS_TO_CHECK
        )
    except subprocess.TimeoutExpired:
        return f"MLflow's stores do not answer within {SECONDS_TO_CHECK} s: check {ENDPOINT}"
    lines = completed.stderr.strip().splitlines() or ["MLflow's stores could not be asked"]
    return lines[-1] if completed.returncode else ""


def require(python: pathlib.Path, variables: Mapping[str, str]) -> None:
    """Raise LocalError with the sentence that says why a store does not work."""
    if reason := complaint(python, variables):
        raise LocalError(reason)


def report(state: State, settings: Mapping[str, str]) -> int:
    """Print whether the stores work, and the fix; return how many do not."""
    variables = dict(settings)
    store = StoreCluster(state)
    if store.is_running():
        variables |= store.as_client(state.folder / "authority" / "ca.crt")
    reason = complaint(environments.environment(ROLE), variables)
    stores = f"MLflow's stores: {settings[DESTINATION]}" + (", PostgreSQL" if "PGHOST" in variables else "")
    print(f"missing  MLflow's stores: {reason}" if reason else f"found    {stores}")
    return int(bool(reason))


class StoreCluster(Cluster):
    """The cluster that holds MLflow's database: no PL/Python, and no binding, for no step asks it."""

    set_up = SET_UP + 'ALTER DATABASE :"database" OWNER TO :"role";\n'

    def __init__(self, state: State) -> None:
        super().__init__("tracking-mlflow", "tracking", state, None)

    def variables(self) -> dict[str, str]:
        """Return the postmaster's environment."""
        return clean_environment(HOME=str(self.home))

    def as_client(self, authority: pathlib.Path) -> dict[str, str]:
        """Return libpq's variables for MLflow's role; `authority` is a file that its process can read."""
        return {
            "PGHOST": "localhost",
            "PGPORT": str(self.port),
            "PGDATABASE": self.name,
            "PGUSER": self.role,
            "PGPASSWORD": self.state.password(self.binding),
            "PGSSLMODE": "verify-full",
            "PGSSLROOTCERT": str(authority),
        }


class StoredMlflowServer(MlflowServer):
    """`mlflow server` between the steps and its two stores; `settings` are the variables that name the S3 store."""

    def __init__(
        self, state: State, environment: pathlib.Path | None, store: StoreCluster, settings: Mapping[str, str]
    ) -> None:
        super().__init__("mlflow", state, environment)
        self.store = store
        self.settings = settings

    @property
    def identity(self) -> str:
        """The environment and a hash of the settings: other keys, or a store elsewhere, need another process."""
        text = repr([sorted(self.settings.items()), self.store.port])
        return f"{self.environment} {hashlib.sha256(text.encode()).hexdigest()[:16]}"

    def start(self) -> None:
        """Make the database run, then the server. Raises LocalError."""
        self.store.start()
        super().start()

    def prepare(self) -> None:
        """Make the folders and check both stores. Raises LocalError with the sentence of the store that refuses."""
        super().prepare()
        authority = (self.state.folder / "authority" / "ca.crt").read_text(encoding="ascii")
        write(self._authority, authority, 0o644)
        if AUTHORITY in self.settings:
            # The server's user may be one who cannot read the caller's.
            write(self._store_authority, pathlib.Path(self.settings[AUTHORITY]).read_text(encoding="utf-8"), 0o644)
        require(self._python, self.variables())

    @property
    def _python(self) -> pathlib.Path:
        assert self.environment, "it is only looked for and stopped"
        return self.environment

    @property
    def _authority(self) -> pathlib.Path:
        return self.folder / "ca.crt"

    @property
    def _store_authority(self) -> pathlib.Path:
        return self.folder / "s3-ca.crt"

    def stores(self) -> Sequence[str]:
        """Return the options that name the stores; they hold no secret."""
        return ("--backend-store-uri", STORE, "--artifacts-destination", self.settings[DESTINATION])

    def variables(self) -> dict[str, str]:
        """Return the server's environment, the only place that holds the keys of both stores."""
        environment = {**super().variables(), **self.store.as_client(self._authority), **self.settings}
        if AUTHORITY in environment:
            environment[AUTHORITY] = str(self._store_authority)
        return environment

    def describe(self) -> str:
        """Return one line for a person."""
        return f"{super().describe()}   artifacts {self.settings[DESTINATION]}"
