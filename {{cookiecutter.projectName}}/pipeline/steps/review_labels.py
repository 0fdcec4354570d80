"""List the labels that wait; accept or refuse some.

`collect_labels` copies accepted labels alone, unless project.yaml says `labels: automatic`; it never copies refused
ones.
"""

import re
from typing import NamedTuple

from pipeline import doctor
from pipeline.data import feedback
from pipeline.databases import Connection, query, require_relation, session
from pipeline.errors import StepError
from pipeline.run_identity import person
from pipeline.settings import settings

LISTED = 20
ALL = "all"
SELECTION = r"[0-9]{1,18}(-[0-9]{1,18})?(,[0-9]{1,18}(-[0-9]{1,18})?)*"


class Label(NamedTuple):
    """A label that waits for review, with the model's prediction and its probability."""

    label_id: int
    subject: str
    predicted_label: str
    confidence: float
    label: str
    labelled_at: str


def run(accept: str, refuse: str, subject: str) -> str:
    """List the labels that wait for review; with `accept` or `refuse`, decide about some of them.

    Args:
        accept: numbers of labels, as in 3,7-12, or all that wait
        refuse: likewise
        subject: only labels that this subject gave; empty for all subjects

    Raises:
        StepError: a selection is not written like that, or selects no label.
    """
    chosen = {"accepted": accept.strip(), "refused": refuse.strip()}
    for name, option in (("accept", accept), ("refuse", refuse)):
        if option.strip() not in ("", ALL) and not re.fullmatch(SELECTION, option.strip()):
            raise StepError(f"{name} is {option!r}; write numbers of labels like 3,7-12, or all")
    if all(chosen.values()):
        raise StepError("accept and refuse were both given; give one of them at a time")
    doctor.require(doctor.inference_database)
    inference = session("inference-deployer")
    with inference:
        require_relation(inference, "label_review", "deploy_inference_db")
        for verdict, selection in chosen.items():
            if selection:
                return _decide(inference, verdict, selection, subject)
        return _listing(inference, subject)


def _decide(inference: Connection, verdict: str, selection: str, subject: str) -> str:
    """Store the verdict about the selected labels; numbers select reviewed labels, too. Raises StepError for none."""
    condition, values = _condition(selection)
    decided = query(
        inference,
        "INSERT INTO {schema}.label_review AS earlier (label_id, verdict, reviewed_by) "
        "SELECT label_id, %s, %s FROM {schema}.label_status "
        "WHERE model = %s AND verdict <> %s AND (%s = '' OR subject = %s) AND " + condition + " "
        "ON CONFLICT (label_id) DO UPDATE SET verdict = excluded.verdict, reviewed_by = excluded.reviewed_by, "
        "reviewed_at = clock_timestamp() RETURNING 1",
        (verdict, person(), settings().model, verdict, subject, subject, *values),
    )
    if not decided:
        raise StepError(f"none of the selected labels is there to be {verdict}: `./run review_labels` lists them")
    return f"{len(decided)} labels {verdict}; {feedback.waiting_labels(inference, settings().model)} wait"


def _condition(selection: str) -> tuple[str, list[int]]:
    """Return the SQL condition of a selection of labels, and its values."""
    if selection == ALL:
        return "verdict = 'waiting'", []
    ranges = [part.partition("-") for part in selection.split(",")]
    values = [int(number) for first, _, last in ranges for number in (first, last or first)]
    return f"({' OR '.join(['label_id BETWEEN %s AND %s'] * len(ranges))})", values


def _listing(inference: Connection, subject: str) -> str:
    """Return a table of the first labels that wait, and the subjects whose labels deserve a closer look."""
    rows = query(
        inference,
        "SELECT label_id, subject, predicted_label, confidence, label, to_char(labelled_at, 'YYYY-MM-DD HH24:MI') "
        "FROM {schema}.label_status WHERE model = %s AND verdict = 'waiting' AND (%s = '' OR subject = %s) "
        "ORDER BY label_id LIMIT %s",
        (settings().model, subject, subject, LISTED),
    )
    labels = [Label(*row) for row in rows]
    if not labels:
        return "no label waits for review"
    counts = feedback.subject_labels(inference, settings().model)
    lines = [_line(label) for label in labels]
    doubtful = feedback.set_aside(counts, feedback.holdout_error(inference, settings().model))
    lines += [
        f"doubtful: {feedback.shown(each.subject)} disagrees with the model in {each.disagreements} of {each.labels} "
        "labels"
        for each in doubtful
    ]
    width = feedback.MOST_SHOWN
    header = f"{'label':>8}  {'time':16}  {'subject':{width}}  {'true class':{width}}  prediction"
    first, last = labels[0].label_id, labels[-1].label_id
    waiting = feedback.waiting_labels(inference, settings().model)
    return "\n".join([
        f"{waiting} labels wait for review", header, *lines,
        f"accept these: `./run review_labels --accept {first}-{last}`",
    ])  # fmt: skip


def _line(label: Label) -> str:
    """Return the columns of a label."""
    subject, true_class, prediction = map(feedback.shown, (label.subject, label.label, label.predicted_label))
    return (
        f"{label.label_id:>8}  {label.labelled_at}  {subject:{feedback.MOST_SHOWN}}  "
        f"{true_class:{feedback.MOST_SHOWN}}  {prediction} ({label.confidence:.0%})"
    )
