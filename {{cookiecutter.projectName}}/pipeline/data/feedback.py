"""The trust in labels that people gave where the model is served: shares of a data set, and doubtful subjects."""

import statistics
from collections.abc import Sequence
from typing import NamedTuple

import scipy.special
from psycopg2.extensions import connection as Connection

from pipeline.data.splits import FEEDBACK, SPLITS
from pipeline.databases import query
from pipeline.settings import settings

# A subject with fewer labels is neither judged nor compared with, and none is judged by fewer others.
LEAST_LABELS = 10
LEAST_OTHERS = 3
# A subject is doubtful if chance explains its disagreements with a smaller probability.
BEYOND_CHANCE = 1e-6
MOST_SHOWN = 255


class Limits(NamedTuple):
    """The most labelled rows in a part of a data set: in total, and of one subject."""

    total: int
    per_subject: int


class SubjectLabels(NamedTuple):
    """The labels of one subject: how many, and how many differ from the model's prediction."""

    subject: str
    labels: int
    disagreements: int

    @property
    def rate(self) -> float:
        """The share of labels that differ from the prediction."""
        return self.disagreements / self.labels


def printable(text: str) -> str:
    """Return a name that a client chose, for a terminal: short, and without characters that a terminal obeys."""
    return "".join(character if character.isprintable() else "?" for character in text[:MOST_SHOWN])


def limits(own_rows: int) -> Limits:
    """Return the most labelled rows beside `own_rows` rows of the data set itself, by the shares in project.yaml."""
    monitoring = settings().monitoring
    shares = (monitoring.maximum_label_share, monitoring.maximum_label_share_per_subject)
    total, per_subject = (int(own_rows * share / (1 - share)) for share in shares)
    return Limits(total, per_subject)


def limits_by_split(row_counts: dict[str, int]) -> dict[str, Limits]:
    """Return the limits of the splits that labelled rows belong to, from the data set's own row counts per split."""
    return {
        "train": limits(row_counts["train"]),
        FEEDBACK: limits(sum(row_counts[split] for split in SPLITS if split != "train")),
    }


def subject_labels(inference: Connection, model: str) -> list[SubjectLabels]:
    """Return the labelled inputs per subject, most labels first.

    Equal inputs count once, so that nobody hides wrong labels behind one input that is sent often. Refused labels
    count, too. `inference` is a session of the deploying role.
    """
    rows = query(
        inference,
        "SELECT subject, count(*), count(*) FILTER (WHERE is_other) FROM ("
        "SELECT subject, bool_or(label <> predicted_label) AS is_other FROM {schema}.label_status WHERE model = %s "
        "GROUP BY subject, coalesce(md5(input), prediction_id::text)) AS labelled GROUP BY subject ORDER BY 2 DESC, 1",
        (model,),
    )
    return [SubjectLabels(*row) for row in rows]


def holdout_error(inference: Connection, model: str) -> float:
    """Return the largest error rate on held-out rows of the versions whose predictions have labels; 0 without any."""
    rows = query(
        inference,
        "SELECT max(1 - (metrics ->> 'accuracy_score')::float8) FROM {schema}.model_version AS v WHERE model = %s "
        "AND EXISTS (SELECT 1 FROM {schema}.label_status AS s WHERE s.model = v.model AND s.version = v.version)",
        (model,),
    )
    return float(rows[0][0] or 0)


def doubtful_subjects_of(inference: Connection, model: str) -> list[SubjectLabels]:
    """Return the doubtful subjects among those who labelled predictions of a model."""
    return doubtful_subjects(subject_labels(inference, model), holdout_error(inference, model))


def doubtful_subjects(labels: Sequence[SubjectLabels], error: float) -> list[SubjectLabels]:
    """Return the subjects whose labels differ from the predictions far more often than those of the others.

    A subject is judged where LEAST_OTHERS others have LEAST_LABELS labels at least, so that no single one of them sets
    the standard. Its disagreements are compared, by the upper tail of the binomial distribution, with the model's own
    `error` on held-out rows and with the median rate of the other subjects, whichever is larger.
    """
    judged = [each for each in labels if each.labels >= LEAST_LABELS]
    if len(judged) <= LEAST_OTHERS:
        return []
    return [
        each
        for each in judged
        if _tail(each, max(error, statistics.median(other.rate for other in judged if other is not each)))
        < BEYOND_CHANCE
    ]


def _tail(labels: SubjectLabels, rate: float) -> float:
    """Return the probability of at least as many disagreements at a rate; a rate of 0 counts as half a label."""
    expected = max(rate, 0.5 / labels.labels)
    if labels.disagreements == 0:
        return 1.0
    return float(scipy.special.bdtrc(labels.disagreements - 1, labels.labels, expected))
