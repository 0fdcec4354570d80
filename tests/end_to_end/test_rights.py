"""Rights: what each role may not do, and the roles that functions run as."""

import base64
import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from psycopg2.errors import InsufficientPrivilege

from .project import Project
from .servers import Database

pytestmark = pytest.mark.security

TRAINER = {
    "transition": "SELECT {schema}.model_transition(NULL, NULL, NULL, NULL, NULL, NULL)",
    "combine": "SELECT {schema}.model_combine(NULL, NULL)",
    "final": "SELECT {schema}.evaluate_final(NULL)",
    "read the changelog": "SELECT * FROM {schema}.databasechangelog",
    "lock the changelog": "UPDATE {schema}.databasechangeloglock SET locked = true",
    "write an architecture": "UPDATE {schema}.model_architecture SET architecture = ''",
    "drop": "DROP TABLE {schema}.dataset_batch",
    "alter": "ALTER TABLE {schema}.dataset_batch ADD COLUMN more int",
    "truncate": "TRUNCATE {schema}.training_epoch",
    "delete rows": "DELETE FROM {schema}.dataset_batch",
    "delete epochs": "DELETE FROM {schema}.training_epoch",
    "delete runs": "DELETE FROM {schema}.training_run",
    "change rows": "UPDATE {schema}.dataset_batch SET row_count = 1",
    "change registered versions": "UPDATE {schema}.registered_version SET run_hash = NULL",
    "delete registered versions": "DELETE FROM {schema}.registered_version",
    "replace fit": "ALTER FUNCTION {schema}.model_combine(bytea, bytea) RENAME TO mine",
    "drop fit": "DROP AGGREGATE {schema}.fit(bytea, bytea, int, bytea, text)",
    "index": "CREATE INDEX mine ON {schema}.dataset_batch (batch_id)",
    "trigger": "CREATE TRIGGER mine BEFORE INSERT ON {schema}.dataset_batch EXECUTE FUNCTION pg_catalog.suppress()",
}
APP = {
    "weights": "SELECT onnx FROM {schema}.model_version",
    "versions": "SELECT count(*) FROM {schema}.model_version",
    "aliases": "SELECT * FROM {schema}.model_alias",
    "history": "SELECT * FROM {schema}.model_alias_history",
    "log": "SELECT * FROM {schema}.prediction_log",
    "log's partition": "SELECT * FROM {schema}.prediction_log_default",
    "labels": "SELECT * FROM {schema}.prediction_label",
    "labelled predictions": "SELECT * FROM {schema}.labelled_prediction",
    "settings": "SELECT * FROM {schema}.setting",
    "change settings": "UPDATE {schema}.setting SET store_inputs = true",
    "purge": "SELECT {schema}.purge_predictions()",
    "row_statistics": "SELECT {schema}.row_statistics('x', 'uint8')",
    "forge a label": "INSERT INTO {schema}.prediction_label (prediction_id, label) VALUES (gen_random_uuid(), 'x')",
    "delete labels": "DELETE FROM {schema}.prediction_label",
    "drop record_label": "DROP FUNCTION {schema}.record_label(uuid, text)",
    "open_model": "SELECT {schema}.open_model('x', 1)",
    "answer_row": "SELECT {schema}.answer_row('x', 'x')",
    "answer_batch": "SELECT {schema}.answer_batch('x', 1, 'x')",
    "as_real": "SELECT {schema}.as_real('x')",
    "trigger function": "SELECT {schema}.record_model_alias()",
    "forge a prediction": "INSERT INTO {schema}.prediction_log (model, version, label, probabilities) "
    "VALUES ('x', 1, 'x', '{}')",
    "move an alias": "UPDATE {schema}.model_alias SET version = 1",
    "take an alias": "DELETE FROM {schema}.model_alias",
    "delete versions": "DELETE FROM {schema}.model_version",
    "delete the log": "DELETE FROM {schema}.prediction_log",
    "drop the view": "DROP VIEW {schema}.model_info",
    "create a temporary table": "CREATE TEMP TABLE mine (x int)",
    "drop predict": "DROP FUNCTION {schema}.predict(bytea, text, text)",
    "read the changelog": "SELECT * FROM {schema}.databasechangelog",
}
BOTH = {
    "owner": 'SET ROLE "image_classifier_owner"',
    "superuser": "SET ROLE deployer",
    "create a schema": "CREATE SCHEMA mine",
    "create a table": "CREATE TABLE {schema}.mine (x int)",
    "create a table for all": "CREATE TABLE public.mine (x int)",
    "create a function": "CREATE FUNCTION {schema}.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "create in python": "CREATE FUNCTION pg_temp.mine() RETURNS int LANGUAGE plpython3u AS 'return 1'",
    "run python": "DO LANGUAGE plpython3u 'import os'",
    "create an extension": "CREATE EXTENSION dblink",
    "create a role": "CREATE ROLE mine",
    "grow": "ALTER ROLE CURRENT_USER SUPERUSER",
    "another's table": "SELECT * FROM somebody_elses.secret",
    "passwords": "SELECT rolpassword FROM pg_catalog.pg_authid",
    "server files": "SELECT pg_read_file('/etc/passwd')",
    "server programs": "COPY (SELECT 1) TO PROGRAM 'id'",
    "server settings": "ALTER SYSTEM SET work_mem = '1GB'",
    "large objects of a file": "SELECT lo_import('/etc/passwd')",
    "large objects": "SELECT lo_from_bytea(0, 'x')",
    "log what fails": "SET log_min_error_statement = error",
    "the other sessions": "SELECT pg_reload_conf()",
}


@pytest.fixture(scope="module")
def scratch(trained: Project) -> Iterator[None]:
    """A table of another owner in each database."""
    for binding in ("training-deployer", "inference-deployer"):
        with trained.database(binding) as database:
            database.query("CREATE SCHEMA somebody_elses")
            database.query("CREATE TABLE somebody_elses.secret (x int)")
    yield
    for binding in ("training-deployer", "inference-deployer"):
        with trained.database(binding) as database:
            database.query("DROP SCHEMA somebody_elses CASCADE")


@pytest.mark.parametrize(
    ("binding", "action"),
    [("trainer", action) for action in [*TRAINER, *BOTH]] + [("inference-app", action) for action in [*APP, *BOTH]],
)
def test_forbidden(trained: Project, scratch: None, binding: str, action: str) -> None:
    """The database refuses the action because of a missing privilege."""
    statement = {**(TRAINER if binding == "trainer" else APP), **BOTH}[action]
    with trained.database(binding) as database, pytest.raises(InsufficientPrivilege):
        database.query(statement)


@pytest.mark.parametrize("binding", ["trainer", "inference-app"])
def test_logins_have_no_special_rights(trained: Project, binding: str) -> None:
    """The login roles have no further attribute, and are members of projects' groups only."""
    with trained.database(binding) as database:
        attributes = database.query(
            "SELECT rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls FROM pg_roles "
            "WHERE rolname = current_user"
        )
        groups = database.query(
            "SELECT rolname FROM pg_roles WHERE pg_has_role(current_user, oid, 'member') AND rolname <> current_user"
        )
    assert attributes == [(False,) * 5]
    assert groups
    suffix = {"trainer": "_trainer", "inference-app": "_app"}[binding]
    assert all(name.endswith(suffix) for (name,) in groups)


@pytest.mark.parametrize("binding", ["trainer", "inference-app"])
def test_logins_reach_one_database_with_limited_connections(trained: Project, binding: str) -> None:
    """A login may not connect to the server's other databases, and takes half of its connections at most."""
    with trained.database(binding) as database:
        ((limit, most),) = database.query(
            "SELECT rolconnlimit, current_setting('max_connections')::int FROM pg_roles WHERE rolname = current_user"
        )
        others = database.query(
            "SELECT datname FROM pg_database WHERE datallowconn AND datname <> current_database() "
            "AND has_database_privilege(datname, 'connect')"
        )
    assert limit == most // 2
    assert not others


@pytest.mark.parametrize(
    ("binding", "log", "statement"),
    [
        ("trainer", "training", "SELECT {schema}.fit('\\xdecafbad', '\\x', 1, '\\xdecafbad', '{}')"),
        ("inference-app", "inference", "SELECT {schema}.predict('\\xdecafbad'::bytea, 'no', 'model')"),
    ],
)
def test_no_log_has_what_a_failed_statement_contained(trained: Project, binding: str, log: str, statement: str) -> None:
    """Weights and people's inputs stay out of the server's log, where the error itself is."""
    file = trained.servers.state / log / "log"
    before = file.stat().st_size
    with trained.database(binding) as database, pytest.raises(psycopg2.Error):
        database.query(statement)
    added = file.read_bytes()[before:]
    assert b"ERROR:" in added
    assert b"decafbad" not in added


SERVING = {
    "predict": "SELECT {schema}.predict(%(image)s, %(model)s, 'staging')",
    "predict_batch": "SELECT {schema}.predict_batch(%(image)s, 1, %(model)s, 'staging')",
    "run_inference_task": "SELECT {schema}.run_inference_task(%(image)s, %(model)s, 'staging') -> 'probabilities'",
}
IMAGE = {"image": bytes(range(64)), "model": "image_classifier"}


@pytest.mark.parametrize("binding", ["training-deployer", "inference-deployer"])
def test_functions_belong_to_the_owner(trained: Project, binding: str) -> None:
    """The owner of all functions cannot log in and is no superuser; PUBLIC may execute none.

    A security definer has a fixed search_path, or is tested with hostile ones below.
    """
    with trained.database(binding) as database:
        functions = database.query(
            "SELECT proname, rolname, rolsuper OR rolcanlogin, prosecdef, array_to_string(proconfig, ','), "
            "EXISTS (SELECT 1 FROM aclexplode(coalesce(proacl, acldefault('f', proowner))) WHERE grantee = 0) "
            "FROM pg_proc JOIN pg_roles r ON r.oid = proowner WHERE pronamespace = '{schema}'::regnamespace"
        )
    assert len(functions) >= 5
    for name, owner, powerful, definer, settings, public in functions:
        assert (owner, powerful, public) == ("image_classifier_owner", False, False), name
        assert not definer or settings == "search_path=pg_catalog, pg_temp" or name in SERVING, name


@pytest.fixture(scope="module")
def expected(trained: Project) -> list[float]:
    """The probabilities that an ordinary session gets."""
    with trained.database("inference-app") as app:
        return app.value(SERVING["predict"], IMAGE)


@pytest.fixture(scope="module")
def hostile_schema(trained: Project) -> Iterator[str]:
    """A schema that the app may use, with operators and functions that shadow PostgreSQL's."""
    statements = [
        "CREATE SCHEMA hostile",
        "CREATE FUNCTION hostile.same(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT true'",
        "CREATE FUNCTION hostile.same(int, int) RETURNS boolean LANGUAGE sql AS 'SELECT true'",
        "CREATE OPERATOR hostile.= (LEFTARG = text, RIGHTARG = text, FUNCTION = hostile.same)",
        "CREATE OPERATOR hostile.= (LEFTARG = int, RIGHTARG = int, FUNCTION = hostile.same)",
        "CREATE FUNCTION hostile.unnest(real[]) RETURNS SETOF real LANGUAGE sql AS 'SELECT 0::real'",
        "CREATE FUNCTION hostile.to_jsonb(real[]) RETURNS jsonb LANGUAGE sql AS 'SELECT NULL::jsonb'",
        "CREATE FUNCTION hostile.gen_random_uuid() RETURNS uuid LANGUAGE sql AS 'SELECT NULL::uuid'",
        "GRANT USAGE ON SCHEMA hostile TO app",
    ]
    with trained.database("inference-deployer") as database:
        for statement in statements:
            database.query(statement)
        yield "hostile"
        database.query("DROP SCHEMA hostile CASCADE")


@pytest.mark.parametrize("name", SERVING)
def test_hostile_search_path(trained: Project, hostile_schema: str, expected: list[float], name: str) -> None:
    """Operators and functions that a caller puts before PostgreSQL's in the search_path change no answer."""
    with trained.database("inference-app") as app:
        app.query(f"SET search_path = {hostile_schema}, pg_catalog")
        assert app.value("SELECT 'a'::text = 'b'::text") is True
        assert app.value(SERVING[name], IMAGE) == pytest.approx(expected, abs=1e-6)
        with pytest.raises(psycopg2.errors.NoDataFound):
            app.query(SERVING[name], {**IMAGE, "model": "another"})


@pytest.fixture(scope="module")
def temporary_objects(trained: Project) -> Iterator[None]:
    """The right of everybody to create temporary objects, as on a server that somebody else set up."""
    with trained.database("inference-deployer") as database:
        database.query("GRANT TEMPORARY ON DATABASE inference TO PUBLIC")
        yield
        database.query("REVOKE TEMPORARY ON DATABASE inference FROM PUBLIC")


# Every search_path finds temporary objects first, and the app may create them on some servers.
SPY = (
    "CREATE FUNCTION pg_temp.spy(anyelement) RETURNS boolean LANGUAGE plpgsql AS "
    "$$BEGIN PERFORM set_config('spy.role', current_user, false); RETURN true; END$$",
    "CREATE TYPE pg_temp.served AS (version int, sha256 text, classes text[])",
)
SHADOWS = {"record": "pg_temp.served", **{name: f"pg_catalog.{name}" for name in ("text", "uuid", "jsonb", "float4")}}


@pytest.mark.parametrize("name", SERVING)
@pytest.mark.parametrize("shadow", SHADOWS)
def test_hostile_temporary_types(
    trained: Project, temporary_objects: None, expected: list[float], name: str, shadow: str
) -> None:
    """No function of the owner runs the caller's function in the check of a temporary type."""
    with trained.database("inference-app") as app:
        for statement in SPY:
            app.query(statement)
        app.query(f"CREATE DOMAIN pg_temp.{shadow} AS {SHADOWS[shadow]} CHECK (pg_temp.spy(VALUE))")
        assert app.value(SERVING[name], IMAGE) == pytest.approx(expected, abs=1e-6)
        assert app.value("SELECT current_setting('spy.role', true)") is None


def test_a_compiled_query_does_not_end_the_server(trained: Project) -> None:
    """Statements of the project are not compiled; where the compiler cannot even be loaded, nobody's are."""
    with trained.database("trainer") as database:
        assert database.value("SHOW jit") == "off"
        database.query("SET jit = on")
        assert database.value("SELECT pg_jit_available()") is False


# x + w, where w lies in the file global/1260 of the server's folder: pg_authid.
READS_A_FILE = (
    "CAg6jwEKDgoBeAoBdxIBeSIDQWRkEgFnKj8IAQgEEAFCAXdqFwoIbG9jYXRpb24SC2dsb2JhbC8xMjYwagsKBm9mZnNldBIBMGoMCgZsZW5ndGgS"
    "AjE2cAFaEQoBeBIMCgoIARIGCgAKAggEWhMKAXcSDgoMCAESCAoCCAEKAggEYhEKAXkSDAoKCAESBgoACgIIBEIECgAQEQ=="
)


# A Loop over x, a row of two numbers, whose condition stays true.
NEVER_ENDS = (
    "CAg61wEKnAEKAAoBdAoGaW1hZ2VzEgF5IgRMb29wKoMBCgRib2R5MngKEQoBYxICY28iCElkZW50aXR5ChEKAXYSAnZvIghJZGVudGl0eRIBYloL"
    "CgFpEgYKBAgHEgBaCwoBYxIGCgQICRIAWhEKAXYSDAoKCAESBgoACgIIAmIMCgJjbxIGCgQICRIAYhIKAnZvEgwKCggBEgYKAAoCCAKgAQUSAWcq"
    "CBAJKgEBQgF0WhYKBmltYWdlcxIMCgoIARIGCgAKAggCYhEKAXkSDAoKCAESBgoACgIIAkIECgAQEQ=="
)


def store(database: Database, onnx: str) -> str:
    """Store an ONNX file (base64) as version 99 in an open transaction, as a deployer could; return its SHA-256."""
    database.query("BEGIN")
    database.query("CREATE TEMP TABLE version AS SELECT * FROM {schema}.model_version LIMIT 1")
    database.query("UPDATE version SET version = 99, onnx = decode(%s, 'base64')", (onnx,))
    database.query("UPDATE version SET sha256 = encode(sha256(onnx), 'hex')")
    database.query("INSERT INTO {schema}.model_version SELECT * FROM version")
    return database.value("SELECT sha256 FROM version")


def test_a_model_reads_no_file_of_the_server(trained: Project) -> None:
    """A version whose weights lie in another file is an error, whoever stored it."""
    with trained.database("inference-deployer") as database:
        digest = store(database, READS_A_FILE)
        with pytest.raises(psycopg2.Error, match="External data path"):
            database.query("SELECT {schema}.answer_row(%s, %s)", (bytes(16), digest))
        database.query("ROLLBACK")


def test_an_endless_model_is_stopped(trained: Project) -> None:
    """A Loop without an end is an error after 10 s, and the session answers again."""
    with trained.database("inference-deployer") as database:
        digest = store(database, NEVER_ENDS)
        with pytest.raises(psycopg2.Error, match="terminate flag"):
            database.query("SELECT {schema}.answer_row(%s, %s)", (bytes(8), digest))
        database.query("ROLLBACK")
        assert database.value("SELECT 1") == 1


def test_a_long_batch_is_cancelled(trained: Project) -> None:
    """A time-out ends the statement while the batch is computed, not after its minute."""
    zeros = "decode(repeat('00', 64 * 500000), 'hex')"
    with trained.database("inference-app") as app:
        app.query("SET statement_timeout = '3s'")
        started = time.monotonic()
        with pytest.raises(psycopg2.errors.QueryCanceled):
            app.query(f"SELECT {{schema}}.predict_batch({zeros}, 500000, 'image_classifier', 'staging')")
        assert time.monotonic() - started < 10


class Fit:
    """`fit` in a session of the trainer, with a valid configuration that a test changes."""

    def __init__(self, database: Database) -> None:
        self.database = database
        architecture, optimizer = database.query(
            "SELECT architecture, optimizer FROM {schema}.model_architecture, {schema}.training_run LIMIT 1"
        )[0]
        self.valid: dict[str, Any] = {
            "architecture": json.loads(architecture),
            "optimizer": json.loads(optimizer),
            "shape": [8, 8, 1],
            "dtype": "uint8",
            "classes": 10,
            "batch_size": 32,
            "seed": 1,
            "epoch": 1,
            "threads": 0,
        }

    def __call__(
        self,
        config: dict[str, Any] | None = None,
        features: bytes | None = bytes(128),
        labels: bytes | None = bytes(8),
        rows: int | None = 2,
        weights: bytes = b"",
    ) -> bytes:
        arguments = (features, labels, rows, weights, json.dumps({**self.valid, **(config or {})}))
        return bytes(self.database.value("SELECT {schema}.fit(%s, %s, %s, %s, %s)", arguments))

    def refused(self, **arguments: Any) -> str:
        """Expect an SQL error and return its message; check that the session stays usable."""
        with pytest.raises(psycopg2.Error) as error:
            self(**arguments)
        assert self.database.value("SELECT 1") == 1
        return error.value.diag.message_primary


@pytest.fixture(scope="module")
def fit(trained: Project) -> Iterator[Fit]:
    """One session for all tests, so that each test shows the effects of earlier errors."""
    with trained.database("trainer") as database:
        yield Fit(database)


def layers(*extra: dict[str, Any]) -> dict[str, Any]:
    """Return the architecture of a model with additional layers."""
    ends = [
        layer("InputLayer", batch_shape=[None, 8, 8, 1], name="images"),
        layer("Flatten"),
        *extra,
        layer("Dense", units=10, activation="softmax"),
    ]
    return {
        "module": "keras",
        "class_name": "Sequential",
        "config": {"layers": ends},
        "registered_name": None,
    }


def layer(kind: str, /, module: str = "keras.layers", registered: str | None = None, **config: Any) -> dict[str, Any]:
    """Return an object in Keras' serialization format."""
    return {"module": module, "class_name": kind, "config": config, "registered_name": registered}


def hostile_layers(marker: str) -> dict[str, dict[str, Any]]:
    """Return layers that would run a command or read a file if they were deserialized."""
    command = f"touch {marker}"
    code = base64.b64encode(compile(f"__import__('os').system({command!r})", "", "eval").co_code).decode()
    run = {"class_name": "__lambda__", "config": {"value": [code, None, None]}}
    return {
        "lambda": layer("Lambda", function=run),
        "lambda as activation": layer("Dense", units=10, activation=run),
        "os.system": layer("system", module="os", command=command),
        "os.system as activation": layer("Dense", units=10, activation=layer("system", module="os")),
        "builtin": layer("eval", module="builtins"),
        "function": layer("Dense", units=10, activation=layer("function", module="builtins", registered="system")),
        "inner module": layer("get_file", module="keras.src.utils.file_utils", origin=f"file://{marker}"),
        "utils": layer("get_file", module="keras.utils", origin="file:///etc/passwd"),
        "registered": layer("Dense", registered="mine>Dense", units=10),
        "dotted": layer("../os.system", module="keras.layers.."),
        "dotted class": layer("layers.TFSMLayer", module="keras", filepath="/etc"),
        "dotted function": {"module": "keras", "class_name": "function", "config": "datasets.mnist.load_data"},
        "no module": {"class_name": "Dense", "config": {"units": 10}},
        "nested": layer("TimeDistributed", layer=layer("Lambda", function=run)),
        "initializer": layer("Dense", units=10, kernel_initializer=layer("system", module="os")),
    }


@pytest.mark.parametrize("name", hostile_layers(""))
def test_hostile_architecture(fit: Fit, name: str) -> None:
    """An architecture with anything but Keras' layers is refused with a message, and none of it runs."""
    marker = Path("/tmp") / f"hostile-{uuid.uuid4().hex}"  # noqa: S108 -- where the servers' user may write
    message = fit.refused(config={"architecture": layers(hostile_layers(str(marker))[name])})
    assert "cannot be trained in the database" in message
    assert not marker.exists()


@pytest.mark.parametrize("kind", ["StringLookup", "TFSMLayer", "TextVectorization"])
def test_layers_that_read_files(fit: Fit, kind: str) -> None:
    """Keras' layers that read files are refused, and the message does not quote the files."""
    config = {"filepath": "/etc"} if kind == "TFSMLayer" else {"vocabulary": "/etc/passwd"}
    message = fit.refused(config={"architecture": layers(layer(kind, **config))})
    assert "root:" not in message
    assert "cannot be trained in the database" in message


@pytest.mark.parametrize("module", ["os", "builtins", "keras.src.optimizers.adam", "subprocess"])
def test_hostile_optimizer(fit: Fit, module: str) -> None:
    """An optimizer of another module is refused with a message."""
    message = fit.refused(config={"optimizer": layer("Adam", module=module)})
    assert f"{module}.Adam cannot be trained in the database" in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weights": bytes(40)}, "weights has 10 numbers; the model has 101626, with optimizer slots "),
        ({"weights": bytes(41)}, "weights"),
        ({"features": bytes(127)}, "features has 127 bytes; 2 rows of 8×8×1 uint8 are 128"),
        ({"features": None}, "features, labels and row_count must not be NULL, and row_count must be above 0"),
        ({"labels": bytes(4)}, "labels has 4 bytes; 2 int32 are 8"),
        ({"labels": None}, "features, labels and row_count must not be NULL"),
        ({"rows": 0}, "row_count must be above 0"),
        ({"rows": None}, "row_count must be above 0"),
        ({"labels": b"\x0a\0\0\0\0\0\0\0"}, "a label is 10; allowed is 0 to 9"),
        ({"labels": b"\xff\xff\xff\xff\0\0\0\0"}, "a label is -1; allowed is 0 to 9"),
    ],
)
def test_wrong_rows_and_weights(fit: Fit, arguments: dict[str, Any], message: str) -> None:
    """Rows or weights that do not fit the model are an SQL error with a message; the next statement trains."""
    assert message in fit.refused(**arguments)
    assert fit()[:3] == b"fit"


def test_a_session_stays_usable_after_divergence(fit: Fit) -> None:
    """After a diverged training, the same session trains with the same result as before."""
    before = fit()
    optimizer = {**fit.valid["optimizer"], "config": {**fit.valid["optimizer"]["config"], "learning_rate": 1e30}}
    rows = 512
    message = fit.refused(
        config={"optimizer": optimizer}, features=bytes(range(64)) * rows, labels=bytes(4 * rows), rows=rows
    )
    assert "lower learning_rate" in message
    after = fit()
    # Compare everything except the token of the live model.
    assert before[:8] + before[24:] == after[:8] + after[24:]
