"""Many trainings in one step: in parallel sessions of the training database, each resumed after its last epoch."""

import hashlib
from collections.abc import Callable, Sequence

from psycopg2.extensions import connection as Connection

from pipeline import training_db
from pipeline.databases import binding, query, session
from pipeline.errors import StepError
from pipeline.parent_runs import log_data
from pipeline.tracking import run_of_experiment, step_run
from pipeline.training import run as training_run
from pipeline.training.candidates import Candidate, Division
from pipeline.training.run import Training
from pipeline.training.scheduler import Scheduler
from pipeline.training.session_pool import SessionPool

MOST_SESSIONS = 64

# Gets the trainer's session and the candidates, and returns the step's answer.
Conclusion = Callable[[Connection, list[Candidate]], str]


def division_by_segment(connection: Connection) -> Division:
    """Return the division of the rows by Greenplum's segments, with one session per segment."""
    with connection:
        rows = query(
            connection,
            "SELECT content FROM gp_segment_configuration WHERE role = 'p' AND content >= 0 ORDER BY content",
        )
    return Division.hopping("gp_segment_id", [segment for (segment,) in rows])


def require_sessions(sessions: int) -> None:
    """Check the number of sessions. Raises StepError when it is not allowed."""
    if not 1 <= sessions <= MOST_SESSIONS:
        raise StepError(f"sessions is {sessions}; allowed is 1 to {MOST_SESSIONS}")


def run(step: str, kind: str, trainings: Sequence[Training], division: Division, conclude: Conclusion) -> str:
    """Train all, each as a `kind` with an MLflow run below the step's run, and return the answer of `conclude`.

    `conclude` is called inside the step's run. No training becomes the candidate for promotion here.
    Raises StepError, or TemporaryError when the server went away too often.
    """
    hashes = [training.run_hash for training in trainings]
    return training_run.reconnecting(
        step,
        lambda: _run(step, kind, trainings, division, conclude),
        lambda: training_run.committed_epochs(hashes),
    )


def _run(step: str, kind: str, trainings: Sequence[Training], division: Division, conclude: Conclusion) -> str:
    connection = session("trainer")
    hashes = [training.run_hash for training in trainings]
    data_hash = trainings[0].data.data_hash
    identity = hashlib.sha256(" ".join([step, *sorted(hashes)]).encode()).hexdigest()
    with connection:
        training_db.prepare_session(connection, binding("trainer").is_greenplum)
    with (
        training_run.training_lock(step, connection),
        step_run(step, run_of_experiment(step, identity), data_hash=data_hash, experiment_hash=identity) as parent,
    ):
        log_data(parent.info.run_id, trainings[0].data)
        candidates = [Candidate(number, training) for number, training in enumerate(trainings, 1)]
        with (
            training_run.heartbeat(hashes),
            training_run.recording_failures(hashes),
            SessionPool(division) as pool,
        ):
            Scheduler(connection, kind, parent.info.run_id, division, pool).train(candidates)
        return conclude(connection, candidates)
