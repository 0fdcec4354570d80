"""Many trainings in one step: in parallel sessions of the training database, resumed where each of them stopped."""

import collections
import concurrent.futures
import contextlib
import dataclasses
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import psycopg2
import psycopg2.errors

from pipeline import training_db
from pipeline.databases import binding, connect, first_line, query, session
from pipeline.errors import StepError
from pipeline.tracking import child_run, dataset_input, end_child_run, load_mlflow, run_of_experiment, step_run
from pipeline.training import checkpoints, hopping
from pipeline.training import run as training_run
from pipeline.training.hopping import Stop
from pipeline.training.run import Training
from pipeline.training_db import Blocks, Fitted

MOST_SESSIONS = 64


class Division(NamedTuple):
    """The sessions that train, the stations, and what each of them sees.

    Without partitions a training stays at one station and sees all rows. Else station i sees the rows for which
    `expression`, SQL over dataset_batch, is partitions[i], and the trainings hop from one to the next.
    """

    stations: int
    expression: str = ""
    partitions: tuple[int, ...] = ()

    @classmethod
    def hopping(cls, expression: str, partitions: Sequence[int]) -> "Division":
        """Return a division by an expression, one station for each of its values."""
        return cls(len(partitions), expression, tuple(partitions))

    @property
    def parameters(self) -> dict[str, int]:
        """What of it decides a training's result."""
        return {"partitions": self.stations} if self.partitions else {}

    def blocks(self, station: int) -> Blocks:
        """Return the blocks that a station sees."""
        if not self.partitions:
            return Blocks()
        return Blocks(f"({self.expression.replace('%', '%%')}) = %s", (self.partitions[station],))


@dataclasses.dataclass
class Candidate:
    """A training of an experiment, its committed epochs, and why it failed, if it did."""

    number: int
    training: Training
    epoch_rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    error: str = ""

    @property
    def best(self) -> dict[str, Any]:
        """The epoch with the lowest validation loss."""
        number = checkpoints.best_epoch(self.epoch_rows)
        return next(row for row in self.epoch_rows if row["epoch"] == number)

    @property
    def is_complete(self) -> bool:
        """Whether no epoch is missing."""
        wanted, patience = self.training.parameters["epochs"], self.training.parameters["patience"]
        return len(self.epoch_rows) >= wanted or checkpoints.is_patience_over(self.epoch_rows, patience)


@dataclasses.dataclass
class Journey:
    """A candidate on its way through an epoch: what it carries, and what it has brought from each stop."""

    candidate: Candidate
    mlflow_run: str
    stops: list[Stop]
    state: bytes
    fitted: list[Fitted] = dataclasses.field(default_factory=list)
    scores: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    done: int = 0
    started: float = dataclasses.field(default_factory=time.monotonic)

    @property
    def stop(self) -> Stop:
        """Where it is, or goes next."""
        return self.stops[self.done]

    def begin_epoch(self, state: bytes) -> None:
        """Start an epoch with weights and slots, empty before the first."""
        self.state, self.fitted, self.scores, self.done = state, [], [], 0
        self.started = time.monotonic()

    def arrive(self, brought: Fitted | dict[str, Any] | None) -> None:
        """Take what a stop gave, nothing where it had no row, and look to the next."""
        if isinstance(brought, Fitted):
            self.fitted.append(brought)
            self.state = brought.weights + brought.optimizer_slots
        elif brought is not None:
            self.scores.append(brought)
        self.done += 1


def hopping_over_segments(connection: Any) -> Division:
    """Return Greenplum's own division: a station a segment."""
    with connection:
        rows = query(
            connection,
            "SELECT content FROM gp_segment_configuration WHERE role = 'p' AND content >= 0 ORDER BY content",
        )
    return Division.hopping("gp_segment_id", [segment for (segment,) in rows])


def require_sessions(sessions: int) -> None:
    """Raise StepError when there cannot be so many sessions."""
    if not 1 <= sessions <= MOST_SESSIONS:
        raise StepError(f"sessions is {sessions}; allowed is 1 to {MOST_SESSIONS}")


def run(
    step: str,
    kind: str,
    trainings: Sequence[Training],
    division: Division,
    conclude: Callable[[Any, list[Candidate]], str],
) -> str:
    """Train all, each of `kind` as a child of the step's run in MLflow, and return what `conclude` says of them.

    `conclude` gets the trainer's session and the candidates, inside the step's run. None of them is chosen here.
    Raises StepError, TemporaryError when the server went away too often.
    """
    hashes = [training.run_hash for training in trainings]
    return training_run.reconnecting(
        step,
        lambda: _run(step, kind, trainings, division, conclude),
        lambda: training_run.committed_epochs(hashes),
    )


def _run(
    step: str,
    kind: str,
    trainings: Sequence[Training],
    division: Division,
    conclude: Callable[[Any, list[Candidate]], str],
) -> str:
    connection = session("trainer")
    hashes = [training.run_hash for training in trainings]
    data_hash = trainings[0].data.data_hash
    identity = hashlib.sha256(" ".join([step, *sorted(hashes)]).encode()).hexdigest()
    with connection:
        training_db.prepare_session(connection, binding("trainer").is_greenplum)
    with (
        training_run.one_at_a_time(step, connection),
        step_run(step, run_of_experiment(step, identity), data_hash=data_hash, experiment_hash=identity) as tracked,
    ):
        load_mlflow().log_input(dataset_input(data_hash), context="training")
        candidates = [Candidate(number, training) for number, training in enumerate(trainings, 1)]
        with (
            training_run.heartbeat(hashes),
            training_run.failures_are_recorded(hashes),
            Stations(division) as stations,
        ):
            _Trip(connection, kind, tracked.info.run_id, division, stations).make(candidates)
        return conclude(connection, candidates)


class Stations:
    """The sessions that train, each with a thread of its own that waits for the database."""

    def __init__(self, division: Division) -> None:
        self.division = division
        self.greenplum = binding("trainer").is_greenplum
        # Sessions side by side share the processors; one alone has them all.
        self.threads = 1 if self.greenplum or division.stations > 1 else training_db.threads_for(self.greenplum)

    def __enter__(self) -> "Stations":
        self.running: set[concurrent.futures.Future[Any]] = set()
        with contextlib.ExitStack() as stack:
            self.connections = [stack.enter_context(_open(self.greenplum)) for _ in range(self.division.stations)]
            self.waiters = [
                stack.enter_context(concurrent.futures.ThreadPoolExecutor(1)) for _ in range(self.division.stations)
            ]
            stack.callback(self._cancel)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def _cancel(self) -> None:
        """End what still runs; again and again, for a statement that was only on its way cannot be cancelled."""
        while any(not future.done() for future in self.running):
            for connection in self.connections:
                with contextlib.suppress(psycopg2.Error):
                    connection.cancel()
            concurrent.futures.wait(self.running, timeout=0.5)

    def visit(self, journey: Journey) -> concurrent.futures.Future[Any]:
        """Begin a journey's next stop; the future gives what it brings: Fitted, scores, or None without rows."""
        station = journey.stop.station
        config = journey.candidate.training.config(len(journey.candidate.epoch_rows) + 1, self.threads)
        future = self.waiters[station].submit(self._work, journey, self.connections[station], config)
        self.running = {other for other in self.running if not other.done()} | {future}
        return future

    def _work(self, journey: Journey, connection: Any, config: str) -> Fitted | dict[str, Any] | None:
        training, blocks = journey.candidate.training, self.division.blocks(journey.stop.station)
        dataset, weight_count = training.data.dataset, training.architecture.weight_count
        with connection:
            if journey.stop.task == "evaluate":
                weights = journey.state[: 4 * weight_count]
                return training_db.evaluate(connection, dataset, "validation", weights, config, blocks)
            chosen = blocks if self.division.partitions else training.blocks
            if self.greenplum and not journey.candidate.epoch_rows:
                training_db.require_partial_aggregate(connection, dataset, config, chosen)
            return training_db.fit(connection, dataset, journey.state, config, weight_count, chosen)


@contextlib.contextmanager
def _open(greenplum: bool) -> Iterator[Any]:
    """Open a session for training, and close it afterwards."""
    with contextlib.closing(connect("trainer")) as connection:
        with connection:
            training_db.prepare_session(connection, greenplum)
        yield connection


class _Trip:
    """The journeys of an experiment's candidates: who goes where next, and what is kept of each epoch."""

    def __init__(self, connection: Any, kind: str, parent: str, division: Division, stations: Stations) -> None:
        self.connection = connection
        self.kind = kind
        self.parent = parent
        self.division = division
        self.stations = stations
        self.waiting: list[Journey] = []
        self.under_way: dict[concurrent.futures.Future[Any], Journey] = {}

    def make(self, candidates: list[Candidate]) -> None:
        """Train every candidate to its end; as many travel at a time as there are stations."""
        pending = collections.deque(candidates)
        try:
            while pending or self.waiting or self.under_way:
                while pending and len(self.waiting) + len(self.under_way) < self.division.stations:
                    self._depart(pending.popleft())
                self._send()
                if self.under_way:
                    self._receive()
        except BaseException:
            for journey in [*self.waiting, *self.under_way.values()]:
                with contextlib.suppress(StepError):
                    end_child_run(journey.mlflow_run, "FAILED")
            raise

    def _depart(self, candidate: Candidate) -> None:
        """Begin or go on with a candidate, unless it has finished before."""
        training = candidate.training
        candidate.epoch_rows, known = training_run.open_run(self.connection, training, chosen=False)
        mlflow_run = child_run(self.parent, self.kind, candidate.number, training.run_hash)
        try:
            self._set_out(candidate, known, mlflow_run)
        except BaseException:
            with contextlib.suppress(StepError):
                end_child_run(mlflow_run, "FAILED")
            raise

    def _set_out(self, candidate: Candidate, known: Any, mlflow_run: str) -> None:
        training = candidate.training
        training_run.log_parameters(training, mlflow_run)
        checkpoints.log_missing_epochs(mlflow_run, candidate.epoch_rows)
        if known is None:
            print(f"{self.kind} {candidate.number}: was trained before", flush=True)
            end_child_run(mlflow_run, "FINISHED")
            return
        training_run.begin(self.connection, training, mlflow_run)
        if candidate.epoch_rows:
            print(f"{self.kind} {candidate.number}: resuming after epoch {len(candidate.epoch_rows)}", flush=True)
        journey = Journey(candidate, mlflow_run, self._stops(training), b"")
        if candidate.is_complete:
            self._end(journey)
            return
        journey.begin_epoch(checkpoints.last_state(self.connection, training, len(candidate.epoch_rows)))
        self.waiting.append(journey)

    def _stops(self, training: Training) -> list[Stop]:
        count = self.division.stations
        if self.division.partitions:
            return hopping.itinerary(hopping.first_station(training.run_hash, count), count)
        taken = {journey.stop.station for journey in [*self.waiting, *self.under_way.values()]}
        home = min(set(range(count)) - taken)
        return [Stop("fit", home), Stop("evaluate", home)]

    def _send(self) -> None:
        """Let every journey begin its next stop for which a station is free."""
        free = set(range(self.division.stations)) - {journey.stop.station for journey in self.under_way.values()}
        wanted = [(number, journey.stop.station) for number, journey in enumerate(self.waiting)]
        chosen = [self.waiting[number] for number, _ in hopping.next_visits(wanted, free)]
        for journey in chosen:
            self.waiting.remove(journey)
            self.under_way[self.stations.visit(journey)] = journey

    def _receive(self) -> None:
        """Wait for the next stops to be done, and keep the epochs that are complete."""
        done, _ = concurrent.futures.wait(self.under_way, return_when=concurrent.futures.FIRST_COMPLETED)
        for future in done:
            journey = self.under_way[future]
            try:
                journey.arrive(future.result())
            except (psycopg2.errors.ExternalRoutineException, psycopg2.errors.InvalidTextRepresentation) as error:
                # The function itself refuses, as when the loss is no number, for which the JSON of evaluate has no
                # word: that is this candidate's result.
                refused = isinstance(error, psycopg2.errors.ExternalRoutineException)
                reason = first_line(error) if refused else "the validation loss is no number: lower learning_rate"
                self._fail(journey, reason)
                del self.under_way[future]
                continue
            # It counts as under way until it is kept: what goes wrong meanwhile ends its run too.
            goes_on = journey.done < len(journey.stops) or self._keep(journey)
            del self.under_way[future]
            if goes_on:
                self.waiting.append(journey)

    def _keep(self, journey: Journey) -> bool:
        """Write an epoch's checkpoint, and say whether another epoch follows."""
        candidate, training = journey.candidate, journey.candidate.training
        fitted = self._whole_epoch(journey)
        row = checkpoints.epoch_row(len(candidate.epoch_rows) + 1, fitted, merged_scores(journey.scores))
        with self.connection:
            seconds = time.monotonic() - journey.started
            checkpoints.write_checkpoint(self.connection, training, row, fitted, seconds, candidate.epoch_rows)
        candidate.epoch_rows.append(row)
        checkpoints.log_epoch(journey.mlflow_run, row)
        told = checkpoints.epoch_line(row, training.parameters["epochs"])
        print(f"{self.kind} {candidate.number}: {told}", flush=True)
        if candidate.is_complete:
            self._end(journey)
            return False
        journey.begin_epoch(journey.state)
        return True

    def _whole_epoch(self, journey: Journey) -> Fitted:
        """Join what the stops gave. Raises StepError when they did not see every row."""
        rows, wanted = sum(part.rows for part in journey.fitted), journey.candidate.training.data.split_rows["train"]
        if self.division.partitions and rows != wanted:
            raise StepError(
                f"an epoch over {self.division.stations} segments saw {rows} of {wanted} training rows, as when the "
                "table dataset_batch is being redistributed: run the step again"
            )
        return merged_fitted(journey.fitted)

    def _end(self, journey: Journey) -> None:
        training_run.finish(self.connection, journey.candidate.training, journey.candidate.best["epoch"])
        end_child_run(journey.mlflow_run, "FINISHED")

    def _fail(self, journey: Journey, reason: str) -> None:
        candidate = journey.candidate
        candidate.error = reason
        with self.connection:
            training_run.record_failure(self.connection, [candidate.training.run_hash], reason)
        end_child_run(journey.mlflow_run, "FAILED")
        print(f"{self.kind} {candidate.number}: failed: {reason}", flush=True)


def merged_fitted(parts: Sequence[Fitted]) -> Fitted:
    """Join what an epoch's stops gave: loss and accuracy by rows, weights and slots of the last."""
    rows = sum(part.rows for part in parts)
    return parts[-1]._replace(
        loss=sum(part.loss * part.rows for part in parts) / rows,
        accuracy=sum(part.accuracy * part.rows for part in parts) / rows,
        rows=rows,
    )


def merged_scores(parts: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Join what `evaluate` gave at an epoch's stops: loss and accuracy by rows."""
    rows = sum(part["rows"] for part in parts)
    return {name: sum(part[name] * part["rows"] for part in parts) / rows for name in ("loss", "accuracy")}
