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

from app.records import AccuracyRow, DriftRow, Encoding, InputStatistics, Metrics, PixelFormat, RecordedLabel
from app.settings import Settings

Result = TypeVar("Result")
# The bytes of an image's pixels, or a table's row as JSON.
Input = bytes | str
CONNECT_SECONDS = 3
STATEMENT_SECONDS = 5
POOL_SECONDS = 5
# Age at which the served version is read again: a promotion or rollback takes effect by then.
MODEL_SECONDS = 2
MAX_HISTORY = 10_000
# SQLSTATEs for a missing schema, table or function: deploy_inference_db did not run yet.
NOT_DEPLOYED = ("3F000", "42P01", "42883")


class PredictionError(Exception):
    """A call failed; the text is one sentence."""


class WaitingForModel(PredictionError):
    """No version of the model holds the stage yet."""


class NotDeployed(WaitingForModel):
    """The inference database does not hold this project's schema yet."""


class DatabaseAway(PredictionError):
    """The inference database does not answer in time."""


class UnknownPrediction(PredictionError):
    """There is no prediction with that id."""


class RefusedInput(PredictionError):
    """The database refuses the input or the label."""


@dataclasses.dataclass(frozen=True)
class Model:
    """The version that holds the stage: a row of the view model_info."""

    model: str
    alias: str
    version: int
    classes: tuple[str, ...]
    input_shape: tuple[int, ...]
    input_dtype: str
    metrics: Metrics
    data_hash: str
    git_commit: str
    created_at: datetime.datetime
    changed_at: datetime.datetime
    # Sample rows of the holdout: class to base64 of the row's bytes.
    samples: dict[str, str]
    # None for a model of images.
    encoding: Encoding | None = None
    # None for a model of a table, and of images whose pixels are 0 to 255.
    pixels: PixelFormat | None = None
    # Statistics of the training rows; empty in versions that were registered before they had their extremes.
    inputs: tuple[InputStatistics, ...] = ()

    def has_same_input(self, other: "Model") -> bool:
        """Return whether both models have the same input shape and dtype, and the same columns or values of pixels."""
        first, second = (
            (model.input_shape, model.input_dtype, model.encoding, model.pixels) for model in (self, other)
        )
        return first == second


@dataclasses.dataclass(frozen=True)
class Prediction:
    """A logged prediction; the probabilities are in class order."""

    prediction_id: str
    label: str
    probabilities: tuple[float, ...]
    model: str
    version: int


class Predictions:
    """Calls of the inference database over a pool of connections; thread-safe.

    Every method except `close` raises DatabaseAway if the database does not answer. A call on a broken connection is
    repeated once on a new one, so a prediction may be logged twice if its answer was lost.
    """

    def __init__(self, settings: Settings, size: int) -> None:
        """Prepare a pool of `size` connections; the first calls open them. Raises SettingsError for a wrong binding."""
        binding = settings.binding()
        self._dsn = binding.dsn(
            application_name=f"{settings.project_name} app",
            connect_timeout=CONNECT_SECONDS,
            options=f"-c statement_timeout={int(STATEMENT_SECONDS * 1000)}",
            keepalives_idle=30,
            keepalives_interval=5,
            keepalives_count=3,
            # A host that is down does not even report a statement timeout.
            tcp_user_timeout=int(STATEMENT_SECONDS * 2000),
        )
        self._settings = settings
        # Last in, first out: connections beyond the load stay unopened, as None.
        self._idle: queue.LifoQueue[gp.Database | None] = queue.LifoQueue()
        for _ in range(size):
            self._idle.put(None)
        self._task = gp.function("run_inference_task", schema=settings.schema)
        self._label = gp.function("record_label", schema=settings.schema)
        self._lock = threading.Lock()
        self._model: Model | None = None
        self._read_at: float = -MODEL_SECONDS
        self._classes: dict[int, tuple[str, ...]] = {}

    def model(self, newest: bool = False) -> Model | None:
        """Return the served version, None while no version holds the stage.

        The answer is up to MODEL_SECONDS old; with `newest` it is read now.
        """
        known, read_at = self._model, self._read_at
        if known and not newest and time.monotonic() - read_at < MODEL_SECONDS:
            return known
        asked_at = time.monotonic()
        try:
            model = self._call(lambda database: self._read_model(database, known))
        except WaitingForModel:
            model = None
        with self._lock:
            if asked_at > self._read_at:
                self._model, self._read_at = model, asked_at
            if model:
                self._classes[model.version] = model.classes
        return model

    def served(self, newest: bool = False) -> Model:
        """Return the served version. Raises WaitingForModel while there is none."""
        model = self.model(newest)
        if not model:
            raise WaitingForModel(
                f"no version of model {self._settings.model} holds the stage {self._settings.stage} yet"
            )
        return model

    def classes(self, version: int) -> tuple[str, ...]:
        """Return the classes of a version that has just answered, in the order of its probabilities.

        Raises WaitingForModel if another version replaced it before its classes were read.
        """
        if version not in self._classes:
            self.model(newest=True)
        if version not in self._classes:
            raise WaitingForModel("the model is being replaced: try again")
        return self._classes[version]

    def predict(self, row: Input, subject: str) -> Prediction:
        """Return the prediction for one row, logged with the subject. Raises WaitingForModel, RefusedInput."""
        return self.predict_many([row], subject)[0]

    def predict_many(self, rows: Sequence[Input], subject: str) -> list[Prediction]:
        """Return the predictions for rows, in order, from one statement: all are logged with the subject, or none.

        Raises WaitingForModel, RefusedInput.
        """
        model, stage = self._settings.model, self._settings.stage

        def ask(database: gp.Database) -> list[Prediction]:
            frame = database.create_dataframe(rows=list(enumerate(rows)), column_names=["position", "features"])
            type_ = gp.type_("jsonb" if isinstance(rows[0], str) else "bytea")
            answered = frame.assign(answer=lambda row: self._task(type_(row["features"]), model, stage, subject))
            answers = {row["position"]: row["answer"] for row in answered[["position", "answer"]]}
            return [_prediction(answers[position]) for position in range(len(rows))]

        return self._call(ask)

    def record_label(self, prediction_id: str, label: str, subject: str) -> RecordedLabel:
        """Record the true class of a prediction's input, as the subject gave it.

        Raises UnknownPrediction, RefusedInput.
        """
        try:
            prediction_id = str(uuid.UUID(prediction_id))
        except ValueError:
            raise UnknownPrediction("a prediction's id is a UUID") from None
        # PostgreSQL cannot store these characters, so no class has them.
        if "\0" in label or any("\ud800" <= character <= "\udfff" for character in label):
            raise RefusedInput("the label holds characters that no class has")

        def ask(database: gp.Database) -> RecordedLabel:
            rows = database.apply(lambda: self._label(prediction_id, label, subject), column_name="answer")
            answer = next(iter(rows))["answer"]
            return RecordedLabel(
                prediction_id=answer["prediction_id"],
                label=answer["label"],
                predicted_label=answer["predicted_label"],
                model=answer["model"],
                version=answer["version"],
            )

        try:
            return self._call(ask)
        except NotDeployed:
            raise
        except WaitingForModel as error:
            raise UnknownPrediction(f"there is no prediction {prediction_id}") from error

    def accuracy(self) -> list[AccuracyRow]:
        """Return the accuracy after each label, oldest first, for the latest MAX_HISTORY labels."""

        def ask(database: gp.Database) -> list[AccuracyRow]:
            rows = self._of_model(database, "accuracy_window").order_by("labelled_at", ascending=False)[:MAX_HISTORY]
            return [
                AccuracyRow(
                    version=row["version"],
                    labelled_at=_time(row["labelled_at"]),
                    labelled=row["labelled"],
                    accuracy=row["accuracy"],
                )
                for row in rows
            ]

        return sorted(self._call_or_empty(ask), key=lambda row: row["labelled_at"])

    def drift(self) -> list[DriftRow]:
        """Return the drift of each statistic for the served version; empty before its first prediction."""
        served = self.model()
        if not served:
            return []

        def ask(database: gp.Database) -> list[DriftRow]:
            rows = self._of_model(database, "drift").where(lambda view: view["version"] == served.version)
            return [
                DriftRow(statistic=row["statistic"], predictions=row["predictions"], psi=row["psi"]) for row in rows
            ]

        return self._call_or_empty(ask)

    def close(self) -> None:
        """Close the idle connections."""
        with contextlib.suppress(queue.Empty):
            while True:
                database = self._idle.get_nowait()
                if database is not None:
                    _close(database)

    def _read_model(self, database: gp.Database, known: Model | None) -> Model | None:
        """Return the served version: `known` itself if it is still served and unchanged."""
        view = self._of_model(database, "model_info").where(lambda view: view["alias"] == self._settings.stage)
        served = next(iter(view[["version", "changed_at"]]), None)
        if served is None:
            return None
        if known and (known.version, known.changed_at) == (served["version"], _time(served["changed_at"])):
            return known
        row = next(iter(view), None)
        return _model(row) if row else None

    def _of_model(self, database: gp.Database, view: str) -> gp.DataFrame:
        """Return the model's rows of a view."""
        rows = database.create_dataframe(table_name=view, schema=self._settings.schema)
        return rows.where(lambda row: row["model"] == self._settings.model)

    def _call_or_empty(self, ask: Callable[[gp.Database], list[Result]]) -> list[Result]:
        """Like _call, but return an empty list while there is no model."""
        try:
            return self._call(ask)
        except WaitingForModel:
            return []

    def _call(self, ask: Callable[[gp.Database], Result]) -> Result:
        """Return the result of `ask` on a connection of the pool. Raises PredictionError."""
        with _translated_errors():
            database = self._acquire()
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
                # A connection that has just broken is detected and replaced at its next use.
                self._idle.put(database)

    def _acquire(self) -> gp.Database | None:
        try:
            return self._idle.get(timeout=POOL_SECONDS)
        except queue.Empty:
            raise DatabaseAway(f"no connection to the inference database became free in {POOL_SECONDS} s") from None


@contextlib.contextmanager
def _translated_errors() -> Iterator[None]:
    """Raise a PredictionError for the psycopg2 errors that have one; let others through."""
    try:
        yield
    except psycopg2.Error as error:
        code, text = error.pgcode or "", _first_line(error)
        if code == "P0002":
            raise WaitingForModel(text) from error
        if code in NOT_DEPLOYED:
            raise NotDeployed("the inference database does not hold this project's schema yet") from error
        if code == "22023":
            raise RefusedInput(text) from error
        if code == "57014":
            raise DatabaseAway(f"the inference database took longer than {STATEMENT_SECONDS} s") from error
        # Only the log names the address and the cause.
        if code == "42501":
            raise DatabaseAway("the inference database does not grant the app its rights") from error
        if isinstance(error, psycopg2.OperationalError) or _is_broken(error):
            raise DatabaseAway("the inference database does not answer") from error
        raise


def _is_broken(error: psycopg2.Error) -> bool:
    """Return whether the session is lost (server restarted, network cut) rather than the statement refused."""
    return error.pgcode is None or error.pgcode[:2] in ("08", "58") or error.pgcode[:4] == "57P0"


def _close(database: gp.Database) -> None:
    with contextlib.suppress(psycopg2.Error):
        database.close()


def _first_line(error: psycopg2.Error) -> str:
    """Return the message without the exception name and traceback that PL/Python adds."""
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
        inputs=tuple(values.get("inputs") or ()),
        input_shape=tuple(values["input_shape"]),
        created_at=_time(values["created_at"]),
        changed_at=_time(values["changed_at"]),
    )


_PLAIN = {
    "model", "alias", "version", "input_dtype", "metrics", "data_hash", "git_commit", "samples", "encoding", "pixels",
}  # fmt: skip


def _time(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text)
