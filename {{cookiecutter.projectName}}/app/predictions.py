"""The inference database as the app sees it: the served model, predictions, labels, accuracy and drift."""

import contextlib
import dataclasses
import datetime
import queue
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import greenplumpython as gp
import psycopg2

from app.settings import Settings

Answer = TypeVar("Answer")
# An image's pixels, or a table's row as JSON.
Input = bytes | str
CONNECT_SECONDS = 3
STATEMENT_SECONDS = 5
POOL_SECONDS = 5
# The model's facts are read again after so long: a promotion or rollback is seen by then.
FACTS_SECONDS = 2
MAX_HISTORY = 10_000
# No schema, table or function of that name: deploy_inference_db did not run yet.
NOT_DEPLOYED = ("3F000", "42P01", "42883")


class PredictionError(Exception):
    """A call has no answer; the text is one sentence."""


class WaitingForModel(PredictionError):
    """No version of the model holds the stage yet."""


class NotDeployed(WaitingForModel):
    """The inference database holds nothing of this project yet."""


class DatabaseAway(PredictionError):
    """The inference database does not answer, or not in time."""


class UnknownPrediction(PredictionError):
    """There is no prediction with that id."""


class RefusedInput(PredictionError):
    """The database does not take what it was given."""


@dataclasses.dataclass(frozen=True)
class Model:
    """The version that holds the stage: a row of the view model_info."""

    model: str
    alias: str
    version: int
    classes: tuple[str, ...]
    input_shape: tuple[int, ...]
    input_dtype: str
    metrics: dict[str, Any]
    data_hash: str
    git_commit: str
    created_at: datetime.datetime
    changed_at: datetime.datetime
    # Some rows that the model was chosen by: class to base64 of the row's bytes.
    samples: dict[str, str]
    # What rows of a table become before the model sees them; None where it takes images.
    encoding: dict[str, Any] | None = None

    def takes_what(self, other: "Model") -> bool:
        """Whether both take the same: rows of a shape and type, or of a table's columns."""
        mine, others = ((one.input_shape, one.input_dtype, one.encoding) for one in (self, other))
        return mine == others


@dataclasses.dataclass(frozen=True)
class Prediction:
    """One logged answer; the probabilities are in class order."""

    prediction_id: str
    label: str
    probabilities: tuple[float, ...]
    model: str
    version: int


class Predictions:
    """Calls of the inference database over a pool of connections; threads may share it.

    Every method but `close` raises DatabaseAway when the database does not answer, and is tried once more on a new
    connection when the old one is broken. A prediction whose answer was lost on the way may so be logged twice.
    """

    def __init__(self, settings: Settings, size: int) -> None:
        """Open nothing yet. Raises SettingsError when the service binding is missing or wrong."""
        binding = settings.binding()
        self._dsn = binding.dsn(
            application_name=f"{settings.project_name} app",
            connect_timeout=CONNECT_SECONDS,
            options=f"-c statement_timeout={int(STATEMENT_SECONDS * 1000)}",
            keepalives_idle=30,
            keepalives_interval=5,
            keepalives_count=3,
            # A host that is gone answers nothing, not even that the statement took too long.
            tcp_user_timeout=int(STATEMENT_SECONDS * 2000),
        )
        self._settings = settings
        # The last one given back is the next one taken. None is a connection that nobody needed yet.
        self._idle: queue.LifoQueue[gp.Database | None] = queue.LifoQueue()
        for _ in range(size):
            self._idle.put(None)
        self._task = gp.function("run_inference_task", schema=settings.schema)
        self._label = gp.function("record_label", schema=settings.schema)
        self._lock = threading.Lock()
        self._model: Model | None = None
        self._read_at = -FACTS_SECONDS
        self._classes: dict[int, tuple[str, ...]] = {}

    def model(self, newest: bool = False) -> Model | None:
        """Return the served version, None while no version holds the stage.

        What is returned was read up to FACTS_SECONDS ago, or now with `newest`.
        """
        known, read_at = self._model, self._read_at
        if known and not newest and time.monotonic() - read_at < FACTS_SECONDS:
            return known
        asked_at = time.monotonic()
        try:
            found = self._call(lambda database: self._read_model(database, known))
        except WaitingForModel:
            found = None
        with self._lock:
            if asked_at > self._read_at:
                self._model, self._read_at = found, asked_at
            if found:
                self._classes[found.version] = found.classes
        return found

    def served(self, newest: bool = False) -> Model:
        """Return the served version. Raises WaitingForModel while there is none."""
        found = self.model(newest)
        if not found:
            raise WaitingForModel(
                f"no version of model {self._settings.model} holds the stage {self._settings.stage} yet"
            )
        return found

    def classes(self, version: int) -> tuple[str, ...]:
        """Return the classes of a version that has just answered, in the order of its probabilities.

        Raises WaitingForModel when it was replaced before anything was read of it.
        """
        if version not in self._classes:
            self.model(newest=True)
        if version not in self._classes:
            raise WaitingForModel("the model is being replaced: try again")
        return self._classes[version]

    def predict(self, row: Input) -> Prediction:
        """Return the logged answer to one row. Raises WaitingForModel, RefusedInput."""
        return self.predict_many([row])[0]

    def predict_many(self, rows: Sequence[Input]) -> list[Prediction]:
        """Return the answers to rows, in order, in one round trip: all are logged or none.

        Raises WaitingForModel, RefusedInput.
        """
        model, stage = self._settings.model, self._settings.stage

        def ask(database: gp.Database) -> list[Prediction]:
            given = database.create_dataframe(rows=list(enumerate(rows)), column_names=["position", "features"])
            kind = gp.type_("jsonb" if isinstance(rows[0], str) else "bytea")
            answers = given.assign(answer=lambda row: self._task(kind(row["features"]), model, stage))
            found = {row["position"]: row["answer"] for row in answers[["position", "answer"]]}
            return [_prediction(found[position]) for position in range(len(rows))]

        return self._call(ask)

    def record_label(self, prediction_id: str, label: str) -> dict[str, Any]:
        """Record what a prediction should have been; return prediction_id, label, predicted_label, model, version.

        Raises UnknownPrediction, and RefusedInput when the label is none of the classes.
        """
        try:
            prediction_id = str(uuid.UUID(prediction_id))
        except ValueError:
            raise UnknownPrediction("a prediction's id is a UUID") from None
        # Text that PostgreSQL cannot hold is nobody's class.
        if "\0" in label or any("\ud800" <= character <= "\udfff" for character in label):
            raise RefusedInput("the label holds characters that no class has")

        def ask(database: gp.Database) -> dict[str, Any]:
            answer = database.apply(lambda: self._label(prediction_id, label), column_name="answer")
            return dict(next(iter(answer))["answer"])

        try:
            return self._call(ask)
        except NotDeployed:
            raise
        except WaitingForModel as error:
            raise UnknownPrediction(f"there is no prediction {prediction_id}") from error

    def accuracy(self) -> list[dict[str, Any]]:
        """Return version, labelled_at, labelled and accuracy of each labelled prediction, oldest first.

        Of very many the last MAX_HISTORY.
        """

        def ask(database: gp.Database) -> list[dict[str, Any]]:
            rows = self._of_model(database, "accuracy_window").order_by("labelled_at", ascending=False)[:MAX_HISTORY]
            return [{**row, "labelled_at": _time(row["labelled_at"])} for row in rows]

        return sorted(self._unless_waiting(ask), key=lambda row: row["labelled_at"])

    def drift(self) -> list[dict[str, Any]]:
        """Return statistic, predictions and psi of the served version; none before its first prediction."""
        served = self.model()

        def ask(database: gp.Database) -> list[dict[str, Any]]:
            rows = self._of_model(database, "drift").where(lambda view: view["version"] == served.version)
            return [{name: row[name] for name in ("statistic", "predictions", "psi")} for row in rows]

        return self._unless_waiting(ask) if served else []

    def close(self) -> None:
        """Close what is open and not in use."""
        with contextlib.suppress(queue.Empty):
            while True:
                database = self._idle.get_nowait()
                if database is not None:
                    _close(database)

    def _read_model(self, database: gp.Database, known: Model | None) -> Model | None:
        """Read the served version; what is known of one that is still served is not read again."""
        view = self._of_model(database, "model_info").where(lambda view: view["alias"] == self._settings.stage)
        now = next(iter(view[["version", "changed_at"]]), None)
        if now is None:
            return None
        if known and (known.version, known.changed_at) == (now["version"], _time(now["changed_at"])):
            return known
        row = next(iter(view), None)
        return _model(row) if row else None

    def _of_model(self, database: gp.Database, view: str) -> gp.DataFrame:
        """Return the rows of a view that are the model's."""
        rows = database.create_dataframe(table_name=view, schema=self._settings.schema)
        return rows.where(lambda row: row["model"] == self._settings.model)

    def _unless_waiting(self, ask: Callable[[gp.Database], list[dict[str, Any]]]) -> list[dict[str, Any]]:
        try:
            return self._call(ask)
        except WaitingForModel:
            return []

    def _call(self, ask: Callable[[gp.Database], Answer]) -> Answer:
        """Ask over a connection of the pool. Raises PredictionError."""
        with self._translated():
            database = self._taken()
            try:
                if database is not None:
                    try:
                        return ask(database)
                    except psycopg2.Error as error:
                        if not _is_broken(error):
                            raise
                        _close(database)
                        database = None
                database = gp.database(uri=self._dsn)
                return ask(database)
            finally:
                # One that broke just now is found broken, and replaced, at its next turn.
                self._idle.put(database)

    def _taken(self) -> gp.Database | None:
        try:
            return self._idle.get(timeout=POOL_SECONDS)
        except queue.Empty:
            raise DatabaseAway(f"no connection to the inference database became free in {POOL_SECONDS} s") from None

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Raise PredictionError for what the database says. What is no such case stays an error of psycopg2."""
        try:
            yield
        except psycopg2.Error as error:
            code, text = error.pgcode or "", _first_line(error)
            if code == "P0002":
                raise WaitingForModel(text) from error
            if code in NOT_DEPLOYED:
                raise NotDeployed("the inference database holds nothing of this project yet") from error
            if code == "22023":
                raise RefusedInput(text) from error
            if code == "57014":
                raise DatabaseAway(f"the inference database took longer than {STATEMENT_SECONDS} s") from error
            # Where it is, and why, is for the log alone.
            if code == "42501":
                raise DatabaseAway("the inference database does not let the app in") from error
            if isinstance(error, psycopg2.OperationalError) or _is_broken(error):
                raise DatabaseAway("the inference database does not answer") from error
            raise


def _is_broken(error: psycopg2.Error) -> bool:
    """Whether the session is gone (server restarted, network cut), not the statement refused."""
    return error.pgcode is None or error.pgcode[:2] in ("08", "58") or error.pgcode[:4] == "57P0"


def _close(database: gp.Database) -> None:
    with contextlib.suppress(psycopg2.Error):
        database.close()


def _first_line(error: psycopg2.Error) -> str:
    """Return the message without PL/Python's exception name and traceback."""
    text = (error.diag.message_primary or str(error)).strip()
    line = text.splitlines()[0] if text else type(error).__name__
    return line.removeprefix("ValueError: ").removeprefix("plpy.Error: ")


def _prediction(answer: dict[str, Any]) -> Prediction:
    return Prediction(**{**answer, "probabilities": tuple(answer["probabilities"])})


def _model(row: Iterable[tuple[str, Any]]) -> Model:
    values = dict(row)
    return Model(
        **{name: values[name] for name in _PLAIN & values.keys()},
        classes=tuple(values["classes"]),
        input_shape=tuple(values["input_shape"]),
        created_at=_time(values["created_at"]),
        changed_at=_time(values["changed_at"]),
    )


_PLAIN = {"model", "alias", "version", "input_dtype", "metrics", "data_hash", "git_commit", "samples", "encoding"}


def _time(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text)
