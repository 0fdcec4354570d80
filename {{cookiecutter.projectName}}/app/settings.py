"""What the app is told: project.yaml, environment variables, and the service binding of the inference database."""

import atexit
import dataclasses
import functools
import os
import pathlib
import re
import tempfile
from typing import Any

import psycopg2.extensions
import pyservicebinding.binding
import yaml

BINDING = "inference-app"
# What the pipeline's steps are bound as.
ROLES = ("training-deployer", "trainer", "inference-deployer")
KEYS = ("type", "host", "port", "database", "username", "password")
# libpq's own variables, which say where there is no binding what a binding says.
PG_KEYS = {"host": "PGHOST", "port": "PGPORT", "database": "PGDATABASE", "username": "PGUSER", "password": "PGPASSWORD"}
PROJECT_NAME = r"[a-z][a-z0-9-]{1,38}[a-z0-9]"
STAGES = ("staging", "production")
ORIGIN = r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-fA-F:.]+\](:[0-9]{1,5})?|\*"


class SettingsError(Exception):
    """Something the app is told is missing or wrong; its text is one sentence."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """The answers in project.yaml and what the environment says beside them."""

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

    @property
    def schema(self) -> str:
        """Schema in the inference database."""
        return self.project_name.replace("-", "_")

    @property
    def model(self) -> str:
        """Model in the inference database."""
        return self.schema

    def binding(self) -> "Binding":
        """Return $SERVICE_BINDING_ROOT/inference-app, else the one binding of type postgresql, else what PGHOST names.

        Raises SettingsError when there is none, several fit, a key is missing or the type is another.
        """
        root = os.environ.get("SERVICE_BINDING_ROOT") or ""
        folder = pathlib.Path(root) / BINDING
        if root and folder.is_dir():
            return _from_keys(folder, _read_folder(folder))
        found = _bindings_of_type(root) if root and pathlib.Path(root).is_dir() else []
        if len(found) == 1:
            return _from_keys(folder, found[0])
        if not found and os.environ.get("PGHOST"):
            return _from_libpq()
        raise SettingsError(_no_binding(root, len(found)))


@dataclasses.dataclass(frozen=True)
class Binding:
    """Address and credentials of the inference database; the password is never shown."""

    type: str
    host: str
    port: str
    database: str
    username: str
    password: str = dataclasses.field(repr=False)
    sslmode: str = ""
    ca_file: str = ""
    # The certificate itself, where it lies in no file yet: libpq reads it from one.
    ca: str = dataclasses.field(default="", repr=False)

    @property
    def where(self) -> str:
        """The database as a person names it, without credentials."""
        return f"{self.host}:{self.port}/{self.database}"

    def dsn(self, **options: str | int) -> str:
        """Return the connection string, password and all, with further options of libpq. Each value is quoted."""
        tls = {"sslmode": self.sslmode} if self.sslmode else {}
        if self.ca_file or self.ca:
            tls = {"sslmode": self.sslmode or "verify-full", "sslrootcert": self.ca_file or _written(self.ca)}
        return psycopg2.extensions.make_dsn(
            host=self.host,
            port=self.port,
            dbname=self.database,
            user=self.username,
            password=self.password,
            **tls,
            **options,
        )


@functools.cache
def settings() -> Settings:
    """Read project.yaml and the environment, once. Raises SettingsError."""
    answers = _project()
    monitoring = _wanted(answers, "monitoring", dict, "a section")
    return Settings(
        project_name=_project_name(answers),
        description=_wanted(answers, "description", str, "text"),
        stage=_stage(answers),
        include_monitoring=_wanted(answers, "includeMonitoring", bool, "true or false"),
        accuracy_floor=float(_wanted(monitoring, "accuracyFloor", int | float, "a number")),
        maximum_psi=float(_wanted(monitoring, "maximumPsi", int | float, "a number")),
        minimum_predictions=_wanted(monitoring, "minimumPredictions", int, "a whole number"),
        cors_origins=_origins(os.environ.get("CORS_ORIGINS", "")),
        pool_size=_number("POOL_SIZE", 4, 1, 100),
        uploads_mib=_number("UPLOADS_MIB", 128, 32, 65536),
    )


def _project() -> dict[str, Any]:
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


def _wanted(answers: dict[str, Any], name: str, kind: Any, told: str) -> Any:
    value = answers.get(name)
    # True and False are no numbers.
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise SettingsError(f"project.yaml: {name} is {value!r}; it must be {told}")
    return value


def _project_name(answers: dict[str, Any]) -> str:
    name: str = _wanted(answers, "projectName", str, "text")
    if not re.fullmatch(PROJECT_NAME, name):
        raise SettingsError(
            f"project.yaml: projectName is {name!r}; allowed are 3 to 40 lower-case letters, digits and hyphens"
        )
    return name


def _stage(answers: dict[str, Any]) -> str:
    source = "MODEL_STAGE" if os.environ.get("MODEL_STAGE") else "project.yaml: promotionStage"
    value: str = os.environ.get("MODEL_STAGE") or _wanted(answers, "promotionStage", str, "text")
    if value not in STAGES:
        raise SettingsError(f"{source} is {value!r}; allowed is {' or '.join(STAGES)}")
    return value


def _number(name: str, usual: int, least: int, most: int) -> int:
    value = os.environ.get(name) or str(usual)
    if not re.fullmatch("[0-9]{1,9}", value) or not least <= int(value) <= most:
        raise SettingsError(f"{name} is {value!r}; allowed is a whole number from {least} to {most}")
    return int(value)


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
    """Find by type where no folder has the name: pyservicebinding does not tell folder names.

    A folder with the name of a step's role is that role's alone.
    """
    folders = [pathlib.Path(root) / role for role in ROLES]
    taken = [_read_folder(folder) for folder in folders if folder.is_dir()]
    every = pyservicebinding.binding.ServiceBinding().bindings("postgresql")
    bound = [{key: str(value).strip() for key, value in one.items()} for one in every]
    return [keys for keys in bound if keys not in taken]


def _from_libpq() -> Binding:
    given = {name: value.strip() for name, value in os.environ.items() if name.startswith("PG")}
    values = {"PGPORT": "5432", **{name: value for name, value in given.items() if value}}
    missing = [name for name in PG_KEYS.values() if name not in values]
    if missing:
        raise SettingsError(
            f"PGHOST is set without {', '.join(missing)}: set all of them, or SERVICE_BINDING_ROOT to the "
            f"folder that holds the service binding {BINDING}"
        )
    ca_file = values.get("PGSSLROOTCERT", "")
    # libpq takes this word for the certificates of the system.
    if ca_file not in ("", "system") and not pathlib.Path(ca_file).is_file():
        raise SettingsError(f"PGSSLROOTCERT is {ca_file!r}; there is no such file")
    keys = {key: values[name] for key, name in PG_KEYS.items()}
    # Not libpq's: where no file can be mounted, the certificate itself.
    authority = values.get("PGSSLROOTCERT_PEM", "")
    return Binding("postgresql", **keys, sslmode=values.get("PGSSLMODE", ""), ca_file=ca_file, ca=authority)


def _no_binding(root: str, found: int) -> str:
    """Return the sentence that says why there is no binding to take."""
    variables = "set PGHOST, PGDATABASE, PGUSER and PGPASSWORD instead"
    if not root or not pathlib.Path(root).is_dir():
        told = f"is {root}; there is no such folder" if root else "is not set"
        return f"SERVICE_BINDING_ROOT {told}: let it name the folder of service bindings, or {variables}"
    told = f"{root} holds no folder {BINDING} and {found} bindings of type postgresql that are no step's: name a folder"
    return f"{told} {BINDING}, or " + ("leave exactly one of that type" if found else variables)


def _written(certificate: str) -> str:
    """Write a certificate to a file that lies there until the process ends; return its path."""
    handle, path = tempfile.mkstemp(suffix="-ca.crt")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(certificate)
    atexit.register(os.unlink, path)
    return path
