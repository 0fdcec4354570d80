"""Service bindings (servicebinding.io), and sessions of the databases that they name."""

import atexit
import contextlib
import dataclasses
import functools
import os
import pathlib
import re
import select
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import psycopg2
import psycopg2.errors
import psycopg2.extensions
import psycopg2.extras
import pyservicebinding.binding

from pipeline.errors import StepError, TemporaryError
from pipeline.settings import settings

Connection = psycopg2.extensions.connection

TYPES = {
    "training-deployer": ("greenplum", "postgresql"),
    "trainer": ("greenplum", "postgresql"),
    "inference-deployer": ("postgresql",),
    "inference-app": ("postgresql",),
}
REQUIRED_KEYS = ("type", "host", "port", "database", "username", "password")
# libpq gives no SQLSTATE for a failed connection, so match its message. Any message not listed needs a person.
RECOVERS = re.compile("recovery mode|starting up|shutting down|not yet accepting")
# "could not translate host name": a name may be unknown until its pod has started.
IS_AWAY = re.compile(
    "Connection refused|Connection reset|Broken pipe|timed out|timeout expired|No route to host|is unreachable"
    "|Host is down|server closed the connection|closed unexpectedly|EOF detected|terminating connection"
    "|could not translate host name|too many clients|too many connections|connection slots are reserved"
)
# Where others may create functions in the schema public, one that fits the types of a call better replaces
# PostgreSQL's own, and runs with the rights of the session.
SAFE_SEARCH_PATH = "SET search_path = pg_catalog, pg_temp"
# Seconds between cancel requests after Ctrl-C.
CANCEL_SECONDS = 0.5


@dataclasses.dataclass(frozen=True)
class Binding:
    """Address and credentials of one database role; the password is never shown."""

    name: str
    type: str
    provider: str
    host: str
    port: str
    database: str
    username: str
    password: str = dataclasses.field(repr=False)
    sslmode: str = ""
    ca_file: str = ""

    @property
    def where(self) -> str:
        """The database for a message, without credentials."""
        return f"{self.type} {self.host}:{self.port}/{self.database}"

    @property
    def is_greenplum(self) -> bool:
        """Return whether rows lie on segments."""
        return self.type == "greenplum"

    @property
    def dsn(self) -> str:
        """The connection string of libpq with the password; each value is quoted."""
        tls = {"sslmode": self.sslmode} if self.sslmode else {}
        if self.ca_file:
            tls = {"sslmode": self.sslmode or "verify-full", "sslrootcert": self.ca_file}
        return psycopg2.extensions.make_dsn(
            host=self.host,
            port=self.port,
            dbname=self.database,
            user=self.username,
            password=self.password,
            **tls,
        )


@functools.cache
def binding(name: str) -> Binding:
    """Return the binding called `name` ($SERVICE_BINDING_ROOT/<name>).

    Without a folder of that name, return the only binding of the right type. Raises StepError when there is none or
    more than one, a key is missing, or the type differs from project.yaml.
    """
    root = os.environ.get("SERVICE_BINDING_ROOT")
    if not root:
        raise StepError(
            "SERVICE_BINDING_ROOT is not set: `make pipeline` starts local servers and sets it, or point it "
            "at a folder of service bindings"
        )
    if not pathlib.Path(root).is_dir():
        raise StepError(f"SERVICE_BINDING_ROOT is {root}; there is no such folder")
    folder = pathlib.Path(root) / name
    keys = _read_folder(folder) if folder.is_dir() else _only_binding(name)
    missing = [key for key in REQUIRED_KEYS if not keys.get(key)]
    if missing:
        raise StepError(f"the service binding {folder} lacks {', '.join(missing)}")
    _check_type(name, keys)
    return Binding(
        name=name,
        **{key: keys[key] for key in REQUIRED_KEYS},
        provider=keys.get("provider", ""),
        sslmode=keys.get("sslmode", ""),
        ca_file=_ca_file(folder, keys),
    )


def _read_folder(folder: pathlib.Path) -> dict[str, str]:
    try:
        return {path.name: path.read_text(encoding="utf-8").strip() for path in folder.iterdir() if path.is_file()}
    except OSError as error:
        raise StepError(f"the service binding {folder} cannot be read: {error.strerror}") from error


def _only_binding(name: str) -> dict[str, str]:
    """Return the keys of the only binding of the role's type, leaving out folders named after another role.

    pyservicebinding does not return folder names, so bindings are compared by their keys.
    """
    database_type = settings().training_database if name.startswith("train") else "postgresql"
    role_folders = [pathlib.Path(os.environ["SERVICE_BINDING_ROOT"]) / role for role in TYPES]
    of_other_roles = [_read_folder(folder) for folder in role_folders if folder.is_dir()]
    bindings = [
        {key: str(value).strip() for key, value in keys.items()}
        for keys in pyservicebinding.binding.ServiceBinding().bindings(database_type)
    ]
    candidates = [keys for keys in bindings if keys not in of_other_roles]
    if len(candidates) != 1:
        raise StepError(
            f"{os.environ['SERVICE_BINDING_ROOT']} holds no folder {name} and {len(candidates)} bindings of type "
            f"{database_type} that belong to no other role: name a folder {name}, or leave exactly one of that type"
        )
    return candidates[0]


def _check_type(name: str, keys: dict[str, str]) -> None:
    """Raise StepError when a binding's type is not allowed for its role."""
    allowed = TYPES[name]
    if name.startswith("train") and keys.get("provider") != "local":
        # The local servers stand in for the training database, whatever its type is elsewhere.
        allowed = (settings().training_database,)
    if keys["type"] not in allowed:
        raise StepError(
            f"the service binding {name} is of type {keys['type']!r}; allowed is {' or '.join(allowed)} "
            "(project.yaml: trainingDatabase)"
        )


def _ca_file(folder: pathlib.Path, keys: dict[str, str]) -> str:
    """Return the certificate's path, empty without one; libpq and Java's driver read it from a file."""
    if not keys.get("ca.crt"):
        return ""
    if (folder / "ca.crt").is_file():
        return str(folder / "ca.crt")
    handle, path = tempfile.mkstemp(suffix="-ca.crt")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(keys["ca.crt"])
    atexit.register(os.unlink, path)
    return path


def connect(name: str) -> Connection:
    """Open a new session with the binding called `name`.

    Raises TemporaryError when the server is away, StepError when it refuses, and psycopg2.OperationalError while it
    recovers: a caller that can wait tries again.
    """
    address = binding(name)
    try:
        connection = psycopg2.connect(
            address.dsn, connect_timeout=10, application_name=f"{settings().project_name} {name}"
        )
        with connection:
            query(connection, SAFE_SEARCH_PATH)
        return connection
    except psycopg2.OperationalError as error:
        if RECOVERS.search(str(error)):
            raise
        # One line per address; a server that answered is in the last one.
        attempts = [line for line in str(error).splitlines() if line.startswith("connection to server")]
        reason = attempts[-1] if attempts else first_line(error)
        exception = TemporaryError if IS_AWAY.search(reason) else StepError
        raise exception(f"{name}: {address.where} does not answer: {reason}") from error


_sessions: dict[str, Connection] = {}


def session(name: str) -> Connection:
    """Return this process's session of a binding, and open it when needed. Raises StepError.

    All steps of one command share it, so its backend imports and compiles (TensorFlow: 5 s) only once.
    """
    if name not in _sessions or _sessions[name].closed:
        _sessions[name] = connect(name)
    return _sessions[name]


def forget_session(name: str) -> None:
    """Close this process's session of a binding, if there is one."""
    if name in _sessions:
        with contextlib.suppress(psycopg2.Error):
            _sessions.pop(name).close()


def query(
    connection: Connection, statement: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None
) -> list[tuple[Any, ...]]:
    """Run one statement, `{schema}` replaced by the quoted schema, and return its rows (empty if none)."""
    with connection.cursor() as cursor:
        cursor.execute(in_schema(statement), parameters)
        return cursor.fetchall() if cursor.description else []


def has_relation(connection: Connection, name: str) -> bool:
    """Return whether the project's schema has a table or view of that name."""
    return query(connection, "SELECT to_regclass(%s)", (in_schema("{schema}.") + name,))[0][0] is not None


def require_relation(connection: Connection, name: str, step: str) -> None:
    """Raise StepError, naming the step that creates it, when the project's schema lacks a table or view."""
    if not has_relation(connection, name):
        raise StepError(f"the database {connection.info.dbname} has no {name} of this project yet: run {step}")


def insert(connection: Connection, table: str, values: Mapping[str, object]) -> None:
    """Insert one row, a mapping of columns to values, into a table of the project's schema."""
    marks = ", ".join(["%s"] * len(values))
    query(
        connection, "INSERT INTO {schema}." + f"{table} ({', '.join(values)}) VALUES ({marks})", tuple(values.values())
    )


def in_schema(statement: str) -> str:
    """Return the statement with `{schema}` replaced by the project's schema as a quoted identifier."""
    return statement.replace("{schema}", f'"{settings().schema}"')


def prepare_login(connection: Connection, group: str, login: str) -> None:
    """Make a login a member of the group role, and set its limits.

    It may open half of the server's connections, unless an administrator set a limit. Failed statements of the login
    and of the deployer, which contain weights and inputs, are not logged. PostgreSQL compiles no query of either: see
    fit.start_tensorflow. Raises StepError when there is no such login.
    """
    with connection:
        rows = query(
            connection,
            "SELECT pg_has_role(rolname, %s, 'member'), rolconnlimit >= 0, current_database(), current_user "
            "FROM pg_roles WHERE rolname = %s",
            (group, login),
        )
        if not rows:
            raise StepError(f"the database has no login {login}: create it, or correct the service binding")
        is_member, is_limited, database, deployer = rows[0]
        quoted = {
            name: psycopg2.extensions.quote_ident(name, connection) for name in (group, login, database, deployer)
        }
        if not is_member:
            query(connection, f"GRANT {quoted[group]} TO {quoted[login]}")
        if not is_limited:
            half = int(query(connection, "SELECT current_setting('max_connections')::int / 2")[0][0])
            query(connection, f"ALTER ROLE {quoted[login]} CONNECTION LIMIT {half}")
        for role in {login, deployer}:
            for setting in ("log_min_error_statement = 'panic'", "jit = off"):
                query(connection, f"ALTER ROLE {quoted[role]} IN DATABASE {quoted[database]} SET {setting}")
        # The settings of a role apply to its later sessions only.
        query(connection, "SET log_min_error_statement = 'panic'")


def grant_temporary_tables(connection: Connection, group: str) -> None:
    """Let a group role create temporary tables in this database, where not everybody may."""
    with connection:
        database = query(connection, "SELECT current_database()")[0][0]
        names = [psycopg2.extensions.quote_ident(name, connection) for name in (database, group)]
        query(connection, f"GRANT TEMPORARY ON DATABASE {names[0]} TO {names[1]}")


def lost_connection(error: BaseException) -> bool:
    """Return whether an error means that the session is gone (server or segment restarted), not that SQL is wrong."""
    if isinstance(error, psycopg2.InterfaceError):
        return True
    if not isinstance(error, psycopg2.OperationalError):
        return False
    code = error.pgcode
    return code is None or code[:2] in ("08", "58") or code in ("57P01", "57P02", "57P03")


def may_pass(error: BaseException) -> bool:
    """Return whether an error of a database or of a step may pass by itself."""
    return isinstance(error, TemporaryError) or lost_connection(error)


def first_line(error: BaseException) -> str:
    """Return an error's message as one line, without PL/Python's exception name and traceback."""
    text = getattr(getattr(error, "diag", None), "message_primary", None) or str(error)
    line = text.strip().splitlines()[0] if text.strip() else type(error).__name__
    return line.removeprefix("ValueError: ").removeprefix("plpy.Error: ")


def _await_socket(connection: Connection, state: int, seconds: float | None) -> None:
    """Wait until the connection's socket is ready as `state` of its poll asks, at most so many seconds."""
    if state == psycopg2.extensions.POLL_READ:
        select.select([connection.fileno()], [], [], seconds)
    else:
        select.select([], [connection.fileno()], [], seconds)


@contextlib.contextmanager
def interruptible(on_message: Callable[[str], None] = lambda message: None) -> Iterator[None]:
    """Let Ctrl-C cancel a running statement and raise KeyboardInterrupt; otherwise libpq waits for its end.

    `on_message` gets each message that the database sends while a statement runs. A statement may end before the cancel
    request reaches it: then the end of the block raises KeyboardInterrupt.
    """
    interrupted = False

    def wait(connection: Connection) -> None:
        nonlocal interrupted
        while True:
            try:
                if interrupted:
                    # The server answers with an error, which ends the loop. A request that arrives before its
                    # statement has no effect, so it is repeated.
                    connection.cancel()
                state = connection.poll()
                while connection.notices:
                    on_message(connection.notices.pop(0))
                if state == psycopg2.extensions.POLL_OK:
                    return
                _await_socket(connection, state, CANCEL_SECONDS if interrupted else None)
            except KeyboardInterrupt:
                interrupted = True

    psycopg2.extensions.set_wait_callback(wait)
    try:
        yield
        if interrupted:
            raise KeyboardInterrupt
    except psycopg2.errors.QueryCanceled as error:
        if interrupted:
            raise KeyboardInterrupt from error
        raise
    finally:
        psycopg2.extensions.set_wait_callback(None)
