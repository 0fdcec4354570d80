"""The app reads project.yaml, variables and a service binding, and names the setting that is missing or wrong."""

import pathlib

import psycopg2.extensions
import pytest
import yaml

from app import settings

PROJECT = pathlib.Path(settings.__file__).resolve().parent.parent / "project.yaml"
VARIABLES = (
    "PROJECT_FILE", "MODEL_STAGE", "CORS_ORIGINS", "POOL_SIZE", "UPLOADS_MIB", "AUTHENTICATION", "OIDC_ISSUER",
    "OIDC_AUDIENCE", "OIDC_ROLES_CLAIM", "ALLOWED_HOSTS", "REQUESTS_PER_MINUTE", "CONCURRENT_REQUESTS",
)  # fmt: skip
KEYS = {
    "type": "postgresql",
    "host": "db",
    "port": "5432",
    "database": "inference",
    "username": "a user",
    "password": "it's \\ a' secret=1",
}


@pytest.fixture(autouse=True)
def _forget(monkeypatch):
    for name in (*VARIABLES, *settings.PG_KEYS.values(), "PGSSLMODE", "PGSSLROOTCERT", "PGSSLROOTCERT_PEM"):
        monkeypatch.delenv(name, raising=False)
    settings.settings.cache_clear()
    yield
    settings.settings.cache_clear()


@pytest.fixture(name="bindings")
def _bindings(tmp_path, monkeypatch) -> pathlib.Path:
    monkeypatch.setenv("SERVICE_BINDING_ROOT", str(tmp_path))
    return tmp_path


def write_binding(folder: pathlib.Path, **changed: str | None) -> None:
    folder.mkdir()
    for key, value in {**KEYS, **changed}.items():
        if value is not None:
            (folder / key).write_text(f"{value}\n", encoding="utf-8")


def test_what_the_project_says() -> None:
    answers = yaml.safe_load(PROJECT.read_text(encoding="utf-8"))
    chosen = settings.settings()
    assert chosen.project_name == answers["projectName"]
    assert chosen.model == chosen.schema == answers["projectName"].replace("-", "_")
    assert chosen.stage == answers["promotionStage"]
    assert (chosen.cors_origins, chosen.pool_size, chosen.uploads_mib) == ((), 4, 128)


def test_what_variables_say_beside_it(monkeypatch) -> None:
    monkeypatch.setenv("MODEL_STAGE", "production")
    monkeypatch.setenv("CORS_ORIGINS", "https://a.example, http://localhost:3000,")
    monkeypatch.setenv("POOL_SIZE", "9")
    monkeypatch.setenv("UPLOADS_MIB", "32")
    chosen = settings.settings()
    assert (chosen.stage, chosen.pool_size, chosen.uploads_mib) == ("production", 9, 32)
    assert chosen.cors_origins == ("https://a.example", "http://localhost:3000")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("MODEL_STAGE", "x'; --", "allowed is staging or production"),
        ("POOL_SIZE", "0", "from 1 to 100"),
        ("POOL_SIZE", "many", "from 1 to 100"),
        ("UPLOADS_MIB", "31", "from 32 to 65536"),
        ("CORS_ORIGINS", "example.com", "written like https"),
        ("AUTHENTICATION", "basic", "AUTHENTICATION is 'basic'; allowed is api-key, oidc or none"),
        ("AUTHENTICATION", "oidc", "AUTHENTICATION is oidc, and OIDC_ISSUER is not set"),
        ("ALLOWED_HOSTS", "https://a.example", "ALLOWED_HOSTS names 'https://a.example'"),
        ("REQUESTS_PER_MINUTE", "-1", "from 0 to 1000000"),
        ("CONCURRENT_REQUESTS", "0", "from 1 to 10000"),
        ("PROJECT_FILE", "/nowhere/project.yaml", "No such file"),
    ],
)
def test_a_wrong_variable_is_a_sentence(monkeypatch, name, value, message) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(settings.SettingsError, match=message) as refused:
        settings.settings()
    assert "\n" not in str(refused.value)


def test_who_may_ask_and_how_often(monkeypatch) -> None:
    answers = yaml.safe_load(PROJECT.read_text(encoding="utf-8"))
    chosen = settings.settings()
    assert (chosen.authentication, chosen.oidc, chosen.allowed_hosts) == (answers["authentication"], None, ())
    assert (chosen.requests_per_minute, chosen.concurrent_requests) == (600, 64)
    settings.settings.cache_clear()
    variables = {"AUTHENTICATION": "oidc", "OIDC_ISSUER": "https://login.example/realm", "OIDC_AUDIENCE": "api"}
    more = {"ALLOWED_HOSTS": "A.example, *.b.example,", "REQUESTS_PER_MINUTE": "0", "CONCURRENT_REQUESTS": "5"}
    for name, value in {**variables, **more}.items():
        monkeypatch.setenv(name, value)
    chosen = settings.settings()
    assert chosen.oidc == settings.Oidc("https://login.example/realm", "api", "roles")
    assert chosen.allowed_hosts == ("a.example", "*.b.example")
    assert (chosen.requests_per_minute, chosen.concurrent_requests) == (0, 5)


@pytest.mark.parametrize("issuer", ["login.example", "http://login.example", "https://a b", "ftp://login.example"])
def test_an_issuer_that_others_could_imitate_is_refused(monkeypatch, issuer) -> None:
    monkeypatch.setenv("AUTHENTICATION", "oidc")
    monkeypatch.setenv("OIDC_AUDIENCE", "api")
    monkeypatch.setenv("OIDC_ISSUER", issuer)
    with pytest.raises(settings.SettingsError, match="written like https"):
        settings.settings()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("projectName: [", "not valid YAML"),
        ("- 1", "no keys and values"),
        ("monitoring: {}\nprojectName: 7", "projectName is 7; it must be text"),
        ("projectName: p", "monitoring is None; it must be a section"),
    ],
)
def test_a_wrong_project_file_is_a_sentence(monkeypatch, tmp_path, content, message) -> None:
    (tmp_path / "project.yaml").write_text(content, encoding="utf-8")
    monkeypatch.setenv("PROJECT_FILE", str(tmp_path / "project.yaml"))
    with pytest.raises(settings.SettingsError, match=message) as refused:
        settings.settings()
    assert "\n" not in str(refused.value)


def test_the_binding_is_found_by_its_folder(bindings) -> None:
    write_binding(bindings / "inference-app", **{"sslmode": "verify-full", "ca.crt": "certificate"})
    write_binding(bindings / "another")
    binding = settings.settings().binding()
    assert (binding.where, binding.username) == ("db:5432/inference", "a user")
    assert "secret" not in repr(binding)
    dsn = psycopg2.extensions.parse_dsn(binding.dsn(options="-c statement_timeout=5"))
    assert dsn["password"] == KEYS["password"]
    assert dsn["sslrootcert"] == str(bindings / "inference-app" / "ca.crt")
    assert (dsn["sslmode"], dsn["options"]) == ("verify-full", "-c statement_timeout=5")


def test_the_only_binding_of_the_type_is_taken(bindings) -> None:
    write_binding(bindings / "whatever", **{"ca.crt": "certificate"})
    write_binding(bindings / "queue", type="rabbitmq")
    binding = settings.settings().binding()
    assert binding.where == "db:5432/inference"
    dsn = psycopg2.extensions.parse_dsn(binding.dsn())
    assert pathlib.Path(dsn["sslrootcert"]).read_text(encoding="utf-8") == "certificate"
    assert dsn["sslmode"] == "verify-full"


def test_the_binding_of_a_step_is_not_taken(bindings) -> None:
    """A step's binding is for another database or another role."""
    write_binding(bindings / "inference-deployer")
    with pytest.raises(settings.SettingsError, match="0 bindings of type postgresql that are no step's"):
        settings.settings().binding()


def test_a_missing_or_wrong_binding_is_a_sentence(bindings, monkeypatch) -> None:
    chosen = settings.settings()
    with pytest.raises(settings.SettingsError, match="0 bindings of type postgresql"):
        chosen.binding()
    write_binding(bindings / "one")
    write_binding(bindings / "two")
    with pytest.raises(settings.SettingsError, match="2 bindings of type postgresql"):
        chosen.binding()
    write_binding(bindings / "inference-app", password=None, type="mysql")
    with pytest.raises(settings.SettingsError, match="lacks password"):
        chosen.binding()
    (bindings / "inference-app" / "password").write_text("p", encoding="utf-8")
    with pytest.raises(settings.SettingsError, match="allowed is postgresql"):
        chosen.binding()
    monkeypatch.setenv("SERVICE_BINDING_ROOT", str(bindings / "missing"))
    with pytest.raises(settings.SettingsError, match="no such folder"):
        chosen.binding()
    monkeypatch.delenv("SERVICE_BINDING_ROOT")
    with pytest.raises(settings.SettingsError, match="is not set") as refused:
        chosen.binding()
    assert str(refused.value).endswith(", or set PGHOST, PGDATABASE, PGUSER and PGPASSWORD instead")


LIBPQ = {"PGHOST": "pg", "PGDATABASE": "served", "PGUSER": "app", "PGPASSWORD": KEYS["password"]}


@pytest.mark.parametrize("root", ["unset", "empty", "missing", "without a fitting folder"])
def test_without_a_binding_libpqs_variables_are_taken(monkeypatch, tmp_path, root) -> None:
    write_binding(tmp_path / "inference-deployer")
    roots = {"empty": "", "missing": str(tmp_path / "missing"), "without a fitting folder": str(tmp_path)}
    monkeypatch.delenv("SERVICE_BINDING_ROOT", raising=False)
    for name, value in {**LIBPQ, **({"SERVICE_BINDING_ROOT": roots[root]} if root in roots else {})}.items():
        monkeypatch.setenv(name, value)
    binding = settings.settings().binding()
    assert (binding.where, binding.username, binding.password) == ("pg:5432/served", "app", KEYS["password"])
    assert "secret" not in repr(binding)
    assert "sslmode" not in psycopg2.extensions.parse_dsn(binding.dsn())


def test_libpqs_other_variables(monkeypatch, tmp_path) -> None:
    certificate = tmp_path / "ca.crt"
    certificate.write_text("certificate", encoding="utf-8")
    monkeypatch.delenv("SERVICE_BINDING_ROOT", raising=False)
    for name, value in {**LIBPQ, "PGPORT": "6432", "PGSSLROOTCERT": str(certificate)}.items():
        monkeypatch.setenv(name, value)
    dsn = psycopg2.extensions.parse_dsn(settings.settings().binding().dsn())
    assert (dsn["port"], dsn["sslmode"], dsn["sslrootcert"]) == ("6432", "verify-full", str(certificate))
    monkeypatch.setenv("PGSSLMODE", "verify-ca")
    monkeypatch.setenv("PGSSLROOTCERT", "system")
    dsn = psycopg2.extensions.parse_dsn(settings.settings().binding().dsn())
    assert (dsn["sslmode"], dsn["sslrootcert"]) == ("verify-ca", "system")


def test_the_authority_as_a_variable(monkeypatch) -> None:
    """For platforms that cannot mount a file; a line break at the end of a Secret is not part of the password."""
    monkeypatch.delenv("SERVICE_BINDING_ROOT", raising=False)
    pem = "-----BEGIN CERTIFICATE-----"
    for name, value in {**LIBPQ, "PGPASSWORD": "secret\n", "PGSSLROOTCERT_PEM": f"{pem}\n"}.items():
        monkeypatch.setenv(name, value)
    dsn = psycopg2.extensions.parse_dsn(settings.settings().binding().dsn())
    assert dsn["password"] == "secret"
    assert pathlib.Path(dsn["sslrootcert"]).read_text(encoding="utf-8") == pem


def test_a_binding_wins_over_libpqs_variables(monkeypatch, bindings) -> None:
    for name, value in LIBPQ.items():
        monkeypatch.setenv(name, value)
    write_binding(bindings / "whatever")
    assert settings.settings().binding().where == "db:5432/inference"
    # With several bindings the app refuses to guess.
    write_binding(bindings / "another")
    with pytest.raises(settings.SettingsError, match="2 bindings of type postgresql"):
        settings.settings().binding()
    write_binding(bindings / "inference-app", password=None)
    with pytest.raises(settings.SettingsError, match="lacks password"):
        settings.settings().binding()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"PGUSER": "", "PGPASSWORD": ""}, "PGHOST is set without PGUSER, PGPASSWORD: .* SERVICE_BINDING_ROOT"),
        ({"PGSSLROOTCERT": "/nowhere/ca.crt"}, "PGSSLROOTCERT is '/nowhere/ca.crt'; there is no such file"),
    ],
)
def test_what_is_wrong_with_libpqs_variables_is_a_sentence(monkeypatch, changed, message) -> None:
    monkeypatch.delenv("SERVICE_BINDING_ROOT", raising=False)
    for name, value in {**LIBPQ, **changed}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(settings.SettingsError, match=message) as refused:
        settings.settings().binding()
    assert "secret" not in str(refused.value) and "\n" not in str(refused.value)
