"""The app's settings: project.yaml, environment variables, and the service binding of the inference database."""

import atexit
import dataclasses
import functools
import os
import pathlib
import re
import tempfile
from collections.abc import Mapping, Sequence
from typing import TypeVar

import psycopg2.extensions
import pyservicebinding.binding
import yaml

Kind = TypeVar("Kind")
BINDING = "inference-app"
# Names of the bindings of the pipeline's steps.
ROLES = ("training-deployer", "trainer", "inference-deployer")
KEYS = ("type", "host", "port", "database", "username", "password")
# libpq's variables, which replace a binding.
PG_KEYS = {"host": "PGHOST", "port": "PGPORT", "database": "PGDATABASE", "username": "PGUSER", "password": "PGPASSWORD"}
PROJECT_NAME = r"[a-z][a-z0-9-]{1,38}[a-z0-9]"
STAGES = ("staging", "production")
AUTHENTICATIONS = ("api-key", "oidc", "none")
# The binding with the hashes of API keys.
API_KEYS = "api-keys"
HOST_NAME = r"(\*\.)?[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*|\[[0-9a-fA-F:.]+\]"
# Without TLS only on this machine: whoever reads the traffic could answer in the issuer's place.
ISSUER = r"https://[^\s?#]+|http://(localhost|127\.0\.0\.1)(:[0-9]{1,5})?[^\s?#]*"
ORIGIN = r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-fA-F:.]+\](:[0-9]{1,5})?|\*"


class SettingsError(Exception):
    """A setting is missing or wrong; the text is one sentence."""


@dataclasses.dataclass(frozen=True)
class Oidc:
    """An OpenID Connect provider, the audience of its tokens for this app, and the claim that lists roles."""

    issuer: str
    audience: str
    roles_claim: str


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings from project.yaml and the environment."""

    project_name: str
    description: str
    stage: str
    include_monitoring: bool
    accuracy_floor: float
    maximum_psi: float
    minimum_predictions: int
    cors_origins: tuple[str, ...] = ()
    pool_size: int = 4
    uploads_mib: int = 128
    authentication: str = "none"
    oidc: Oidc | None = None
    allowed_hosts: tuple[str, ...] = ()
    # Per subject; 0 for no limit.
    requests_per_minute: int = 600
    concurrent_requests: int = 64

    @property
    def schema(self) -> str:
        """Return the schema in the inference database."""
        return self.project_name.replace("-", "_")

    @property
    def model(self) -> str:
        """Return the model's name in the inference database."""
        return self.schema

    def keys_folder(self) -> pathlib.Path:
        """Return the folder with the hashes of API keys. Raises SettingsError."""
        root = os.environ.get("SERVICE_BINDING_ROOT") or ""
        folder = pathlib.Path(root) / API_KEYS
        if not root or not folder.is_dir():
            raise SettingsError(
                f"AUTHENTICATION is api-key, and SERVICE_BINDING_ROOT ({root or 'not set'}) has no folder {API_KEYS}: "
                "create the service binding with the hashes of keys that `python -m app.new_key` makes"
            )
        return folder

    def binding(self) -> "Binding":
        """Return the binding of the inference database.

        Tries, in this order, $SERVICE_BINDING_ROOT/inference-app, the only binding of type postgresql, and libpq's
        variables. Raises SettingsError if there is none, several fit, a key is missing or the type is wrong.
        """
        root = os.environ.get("SERVICE_BINDING_ROOT") or ""
        folder = pathlib.Path(root) / BINDING
        if root and folder.is_dir():
            return _from_keys(folder, _read_folder(folder))
        candidates = _bindings_of_type(root) if root and pathlib.Path(root).is_dir() else []
        if len(candidates) == 1:
            return _from_keys(folder, candidates[0])
        if not candidates and os.environ.get("PGHOST"):
            return _from_libpq()
        raise SettingsError(_no_binding(root, len(candidates)))


@dataclasses.dataclass(frozen=True)
class Binding:
    """Address and credentials of the inference database; its repr hides the password."""

    type: str
    host: str
    port: str
    database: str
    username: str
    password: str = dataclasses.field(repr=False)
    sslmode: str = ""
    ca_file: str = ""
    # The certificate's text where there is no file with it; libpq needs a file.
    ca: str = dataclasses.field(default="", repr=False)

    @property
    def where(self) -> str:
        """Return the database's address without credentials."""
        return f"{self.host}:{self.port}/{self.database}"

    def dsn(self, **options: str | int) -> str:
        """Return the connection string, including the password and further options of libpq; values are quoted."""
        tls = {"sslmode": self.sslmode} if self.sslmode else {}
        if self.ca_file or self.ca:
            tls = {"sslmode": self.sslmode or "verify-full", "sslrootcert": self.ca_file or _certificate_file(self.ca)}
        return psycopg2.extensions.make_dsn(
            host=self.host,
            port=self.port,
            dbname=self.database,
            user=self.username,
            password=self.password,
            **tls,
            **{name: str(value) for name, value in options.items()},
        )


@functools.cache
def settings() -> Settings:
    """Return the settings, read once from project.yaml and the environment. Raises SettingsError."""
    answers = _project()
    monitoring: Mapping[str, object] = _require(answers, "monitoring", dict, "a section")
    return Settings(
        project_name=_project_name(answers),
        description=_require(answers, "description", str, "text"),
        stage=_stage(answers),
        include_monitoring=_require(answers, "includeMonitoring", bool, "true or false"),
        accuracy_floor=_require_number(monitoring, "accuracyFloor"),
        maximum_psi=_require_number(monitoring, "maximumPsi"),
        minimum_predictions=_require(monitoring, "minimumPredictions", int, "a whole number"),
        cors_origins=_origins(os.environ.get("CORS_ORIGINS", "")),
        pool_size=_number("POOL_SIZE", 4, 1, 100),
        uploads_mib=_number("UPLOADS_MIB", 128, 32, 65536),
        authentication=_authentication(answers),
        oidc=_oidc(answers),
        allowed_hosts=_host_names(os.environ.get("ALLOWED_HOSTS", "")),
        requests_per_minute=_number("REQUESTS_PER_MINUTE", 600, 0, 10**6),
        concurrent_requests=_number("CONCURRENT_REQUESTS", 64, 1, 10_000),
    )


def _project() -> dict[str, object]:
    file = pathlib.Path(
        os.environ.get("PROJECT_FILE") or pathlib.Path(__file__).resolve().parent.parent / "project.yaml"
    )
    try:
        answers = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error.strerror} (PROJECT_FILE names another)") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(answers, dict):
        raise SettingsError(f"{file} holds no keys and values")
    return answers


def _require(answers: Mapping[str, object], name: str, kind: type[Kind], expected: str) -> Kind:
    """Return an answer of a type. Raises SettingsError, which calls the type `expected`."""
    value = answers.get(name)
    # bool is a subclass of int.
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise SettingsError(f"project.yaml: {name} is {value!r}; it must be {expected}")
    return value


def _require_number(answers: Mapping[str, object], name: str) -> float:
    if isinstance(answers.get(name), int):
        return float(_require(answers, name, int, "a number"))
    return _require(answers, name, float, "a number")


def _project_name(answers: Mapping[str, object]) -> str:
    name = _require(answers, "projectName", str, "text")
    if not re.fullmatch(PROJECT_NAME, name):
        raise SettingsError(
            f"project.yaml: projectName is {name!r}; allowed are 3 to 40 lower-case letters, digits and hyphens"
        )
    return name


def _stage(answers: Mapping[str, object]) -> str:
    return _choice(answers, "MODEL_STAGE", "promotionStage", STAGES)


def _authentication(answers: Mapping[str, object]) -> str:
    return _choice(answers, "AUTHENTICATION", "authentication", AUTHENTICATIONS)


def _choice(answers: Mapping[str, object], variable: str, answer: str, allowed: Sequence[str]) -> str:
    """Return the value of a variable or, where it is not set, an answer. Raises SettingsError for another value."""
    source = variable if os.environ.get(variable) else f"project.yaml: {answer}"
    value = os.environ.get(variable) or _require(answers, answer, str, "text")
    if value not in allowed:
        raise SettingsError(f"{source} is {value!r}; allowed is {', '.join(allowed[:-1])} or {allowed[-1]}")
    return value


def _oidc(answers: Mapping[str, object]) -> Oidc | None:
    if _authentication(answers) != "oidc":
        return None
    values = {name: os.environ.get(name, "").strip() for name in ("OIDC_ISSUER", "OIDC_AUDIENCE")}
    for name, value in values.items():
        if not value:
            raise SettingsError(f"AUTHENTICATION is oidc, and {name} is not set: set it as your provider describes")
    issuer = values["OIDC_ISSUER"]
    if not re.fullmatch(ISSUER, issuer):
        raise SettingsError(f"OIDC_ISSUER is {issuer!r}; an issuer is written like https://login.example.com/realm")
    return Oidc(issuer, values["OIDC_AUDIENCE"], os.environ.get("OIDC_ROLES_CLAIM") or "roles")


def _number(name: str, default: int, minimum: int, maximum: int) -> int:
    value = os.environ.get(name) or str(default)
    if not re.fullmatch("[0-9]{1,9}", value) or not minimum <= int(value) <= maximum:
        raise SettingsError(f"{name} is {value!r}; allowed is a whole number from {minimum} to {maximum}")
    return int(value)


def _host_names(value: str) -> tuple[str, ...]:
    names = tuple(name.lower() for part in value.split(",") if (name := part.strip()))
    for name in names:
        if not re.fullmatch(HOST_NAME, name):
            raise SettingsError(
                f"ALLOWED_HOSTS names {name!r}; a host is written like api.example.com or *.example.com, without a port"
            )
    return names


def _origins(value: str) -> tuple[str, ...]:
    origins = tuple(origin for part in value.split(",") if (origin := part.strip()))
    for origin in origins:
        if not re.fullmatch(ORIGIN, origin):
            raise SettingsError(f"CORS_ORIGINS names {origin!r}; an origin is written like https://example.com:8443")
    return origins


def _read_folder(folder: pathlib.Path) -> dict[str, str]:
    try:
        return {path.name: path.read_text(encoding="utf-8").strip() for path in folder.iterdir() if path.is_file()}
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"the service binding {folder} cannot be read: {error}") from error


def _from_keys(folder: pathlib.Path, keys: dict[str, str]) -> Binding:
    missing = [key for key in KEYS if not keys.get(key)]
    if missing:
        raise SettingsError(f"the service binding {folder} lacks {', '.join(missing)}")
    if keys["type"] != "postgresql":
        raise SettingsError(f"the service binding {folder} is of type {keys['type']!r}; allowed is postgresql")
    ca_file = folder / "ca.crt"
    return Binding(
        **{key: keys[key] for key in KEYS},
        sslmode=keys.get("sslmode", ""),
        ca_file=str(ca_file) if keys.get("ca.crt") and ca_file.is_file() else "",
        ca=keys.get("ca.crt", ""),
    )


def _bindings_of_type(root: str) -> list[dict[str, str]]:
    """Return the keys of the bindings of type postgresql, except those in a folder named after a step's role."""
    # pyservicebinding returns no folder names, so compare contents.
    folders = [pathlib.Path(root) / role for role in ROLES]
    of_steps = [_read_folder(folder) for folder in folders if folder.is_dir()]
    bindings = pyservicebinding.binding.ServiceBinding().bindings("postgresql")
    stripped = [{key: str(value).strip() for key, value in binding.items()} for binding in bindings]
    return [keys for keys in stripped if keys not in of_steps]


def _from_libpq() -> Binding:
    """Return the binding in libpq's variables. Raises SettingsError."""
    variables = {name: value.strip() for name, value in os.environ.items() if name.startswith("PG")}
    values = {"PGPORT": "5432", **{name: value for name, value in variables.items() if value}}
    missing = [name for name in PG_KEYS.values() if name not in values]
    if missing:
        raise SettingsError(
            f"PGHOST is set without {', '.join(missing)}: set all of them, or SERVICE_BINDING_ROOT to the "
            f"folder that holds the service binding {BINDING}"
        )
    ca_file = values.get("PGSSLROOTCERT", "")
    # libpq reads "system" as the system's certificates.
    if ca_file not in ("", "system") and not pathlib.Path(ca_file).is_file():
        raise SettingsError(f"PGSSLROOTCERT is {ca_file!r}; there is no such file")
    keys = {key: values[name] for key, name in PG_KEYS.items()}
    # Not a variable of libpq: the certificate's text, for platforms that cannot mount a file.
    authority = values.get("PGSSLROOTCERT_PEM", "")
    return Binding("postgresql", **keys, sslmode=values.get("PGSSLMODE", ""), ca_file=ca_file, ca=authority)


def _no_binding(root: str, candidates: int) -> str:
    """Return the sentence that says why none of the `candidates` bindings can be used."""
    variables = "set PGHOST, PGDATABASE, PGUSER and PGPASSWORD instead"
    if not root or not pathlib.Path(root).is_dir():
        problem = f"is {root}; there is no such folder" if root else "is not set"
        return f"SERVICE_BINDING_ROOT {problem}: set it to the folder of service bindings, or {variables}"
    problem = f"{root} holds no folder {BINDING} and {candidates} bindings of type postgresql that are no step's"
    return f"{problem}: name a folder {BINDING}, or " + ("leave exactly one of that type" if candidates else variables)


def _certificate_file(certificate: str) -> str:
    """Write a certificate to a temporary file, which is removed at exit; return its path."""
    handle, path = tempfile.mkstemp(suffix="-ca.crt")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(certificate)
    atexit.register(os.unlink, path)
    return path
