"""The page that page.py serves: a prediction, its true label, the served model and its monitoring.

Streamlit runs this file again at every interaction; ui_state.py holds the state between runs.
"""

# Streamlit is missing in the environment of the type checker.
# mypy: allow-untyped-decorators

import datetime
import pathlib
import sys
from collections.abc import Sequence

import streamlit as st

# Streamlit puts this folder on the path, not the parent folder of the package `app`.
if (project := str(pathlib.Path(__file__).resolve().parent.parent)) not in sys.path:
    sys.path.insert(0, project)

from app import charts, sign_in, ui_input
from app.predictions import Model, Prediction, PredictionError, Predictions
from app.records import AccuracyRow, DriftRow
from app.settings import Settings, SettingsError, settings
from app.subjects import Subject
from app.ui_state import Visit, plain, refuse, sentence

# Seconds between checks for another served version or a database that is back.
REFRESH_SECONDS = 3
NO_MODEL = "No version of the model {model} holds the stage {stage} yet: run the pipeline (`make pipeline`)."


def main() -> None:
    """Draw the page once."""
    st.set_page_config(page_title="Predictions", layout="wide")
    try:
        chosen = settings()
        st.title(chosen.project_name, anchor=False)
        st.write(plain(chosen.description))
        subject = sign_in.visitor(chosen)
        if subject is None:
            return
        predictions = pool()
    except SettingsError as error:
        st.error(plain(str(error)))
        return
    if "predict" not in subject.roles:
        st.error(f"{plain(subject.name)} does not have the role predict.")
        return
    model = served_model(predictions, chosen)
    if isinstance(model, str):
        st.info(f"{model} This page refreshes itself.")
    else:
        show(predictions, chosen, model, subject)
    refresh(predictions, chosen, model)


@st.cache_resource(show_spinner=False)
def pool() -> Predictions:
    """Return the connection pool that all visitors share. Raises SettingsError."""
    return Predictions(settings(), settings().pool_size)


def served_model(predictions: Predictions, chosen: Settings) -> Model | str:
    """Return the served model, or the sentence that says why there is none."""
    try:
        return predictions.model() or NO_MODEL.format(model=plain(chosen.model), stage=chosen.stage)
    except PredictionError as error:
        return plain(sentence(error))


@st.fragment(run_every=REFRESH_SECONDS)
def refresh(predictions: Predictions, chosen: Settings, shown: Model | str) -> None:
    """Draw the page again as soon as another version is served than shown, or the visitor's key is withdrawn."""
    if sign_in.has_ended(chosen) or served_model(predictions, chosen) != shown:
        st.rerun()


def show(predictions: Predictions, chosen: Settings, model: Model, subject: Subject) -> None:
    """Draw the parts of the page that need a model."""
    visit = Visit(predictions, subject, sign_in.rate())
    left, right = st.columns(2, gap="large")
    with left:
        st.header(ui_input.TITLE, anchor=False)
        ui_input.choose(visit, model)
    with right:
        st.header("Prediction", anchor=False)
        answer(visit)
    st.divider()
    st.header("Model", anchor=False)
    describe(model)
    if chosen.include_monitoring:
        st.divider()
        st.header("Monitoring", anchor=False)
        monitor(predictions, chosen, model)


def answer(visit: Visit) -> None:
    """Show the prediction, or the reason why there is none, and ask those who may label for its true label."""
    if refused := st.session_state.get("refused"):
        st.error(plain(refused))
        return
    prediction = st.session_state.get("prediction")
    if prediction is None:
        st.write(ui_input.NOTHING_YET)
        return
    classes = st.session_state.classes
    st.metric("Label", prediction.label, help="The class with the highest probability")
    if unlike := st.session_state.get("unlike"):
        st.warning(plain(f"The input is unlike all training rows, so the label is unreliable: {'; '.join(unlike)}."))
    if len(classes) > charts.MAX_CLASSES:
        st.write(f"The {charts.MAX_CLASSES} most probable of {len(classes):,} classes:")
    st.altair_chart(charts.probabilities(classes, prediction.probabilities, prediction.label))
    st.caption(f"prediction `{prediction.prediction_id}`, answered by version {prediction.version}")
    if "label" in visit.subject.roles:
        ask(visit, prediction, classes)


def ask(visit: Visit, prediction: Prediction, classes: Sequence[str]) -> None:
    """Ask once whether a prediction is right."""
    if recorded := st.session_state.get("recorded"):
        st.success(recorded)
        return
    st.subheader("Is that right?", anchor=False)
    correct, wrong, send = st.columns([2, 4, 2], vertical_alignment="bottom")
    correct.button("Correct", on_click=record, args=(visit, prediction, prediction.label), width="stretch")
    label = wrong.selectbox(
        "Wrong, it is",
        [name for name in classes if name != prediction.label],
        index=None,
        placeholder="choose a class",
        key=f"label of {prediction.prediction_id}",
    )
    send.button("Send", on_click=record, args=(visit, prediction, label), disabled=label is None, width="stretch")


def record(visit: Visit, prediction: Prediction, label: str) -> None:
    """Record the true label of a prediction, once even for a double click."""
    if st.session_state.get("recorded"):
        return
    if wait := visit.refusal():
        st.session_state.refused = wait
        return
    verdict = f"{plain(prediction.label)} is right" if label == prediction.label else f"it is {plain(label)}"
    # Set before the database call: Streamlit may run the second click of a double click during the first.
    st.session_state.recorded = f"Recorded: {verdict}. Thank you."
    try:
        visit.predictions.record_label(prediction.prediction_id, label, visit.subject.name)
    except PredictionError as error:
        st.session_state.pop("recorded", None)
        refuse(error)


def describe(model: Model) -> None:
    """Show the model's version, metrics on held-out rows and confusion matrix."""
    metrics = model.metrics
    facts = {
        "Version": str(model.version),
        "Stage": model.alias,
        "Accuracy": f"{metrics['accuracy_score']:.1%}",
        "F1": f"{metrics['f1_score']:.3f}",
        "Held-out rows": f"{metrics['rows']:,}",
    }
    promoted = model.changed_at.astimezone(datetime.UTC)
    left, right = st.columns(2, gap="large")
    with left:
        columns = [*st.columns(2), *st.columns(3)]
        for column, (label, value) in zip(columns, facts.items(), strict=True):
            column.metric(label, value)
        st.caption(f"promoted {promoted:%Y-%m-%d %H:%M} UTC, git commit `{model.git_commit}`")
    with st.container() if charts.needs_whole_width(model.classes) else right:
        st.subheader("Confusion matrix", anchor=False)
        if len(model.classes) > charts.MAX_CLASSES:
            st.write(f"The {charts.MAX_CLASSES} of {len(model.classes):,} classes with most wrong predictions.")
        st.altair_chart(charts.confusion(model.classes, metrics["confusion_matrix"]))


def monitor(predictions: Predictions, chosen: Settings, model: Model) -> None:
    """Show the accuracy over time, computed from recorded labels, and the drift."""
    try:
        history, statistics = predictions.accuracy(), sorted(predictions.drift(), key=charts.sort_key)
    except PredictionError as error:
        st.warning(plain(sentence(error)))
        return
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader("Accuracy over time", anchor=False)
        show_accuracy(history, chosen, model)
    with right:
        st.subheader("Drift", anchor=False)
        show_drift(statistics, chosen, model)


def show_accuracy(history: Sequence[AccuracyRow], chosen: Settings, model: Model) -> None:
    """Show the latest accuracy of the served version, and that of all versions over time."""
    of_version = [row for row in history if row["version"] == model.version]
    if of_version:
        latest = of_version[-1]
        st.write(f"{latest['accuracy']:.1%} of the last {latest['labelled']} labelled predictions were right.")
    else:
        st.write(f"No prediction of version {model.version} has a label yet.")
    if history:
        st.altair_chart(charts.accuracy(history, chosen.accuracy_floor))


def show_drift(statistics: Sequence[DriftRow], chosen: Settings, model: Model) -> None:
    """Show the largest population stability index and those of all statistics with enough predictions."""
    enough = [row for row in statistics if row["predictions"] >= chosen.minimum_predictions]
    if not statistics:
        st.write(f"Version {model.version} has not predicted anything yet.")
    elif not enough:
        count = max(row["predictions"] for row in statistics)
        st.write(f"{count} of {chosen.minimum_predictions} predictions: too few to measure drift.")
    else:
        largest = max(enough, key=lambda row: row["psi"])
        name = charts.readable(largest["statistic"])
        side = "above" if largest["psi"] > chosen.maximum_psi else "within"
        st.write(
            f"The last {largest['predictions']} predictions against the training rows: "
            f"{largest['psi']:.2f} at most ({name}), {side} the limit {chosen.maximum_psi:g}."
        )
        st.altair_chart(charts.drift(enough, chosen.maximum_psi))


main()
