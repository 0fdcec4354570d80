"""The page: `streamlit run app/ui.py`. A prediction, what people say of it, and how the model does.

Streamlit runs this file again at every interaction; ui_state.py says what outlives a run.
"""

import datetime
import pathlib
import sys
from collections.abc import Sequence

import streamlit as st

# `streamlit run` puts this folder on the path, not the one that the package `app` lies in.
if (project := str(pathlib.Path(__file__).resolve().parent.parent)) not in sys.path:
    sys.path.insert(0, project)

from app import charts, ui_input
from app.predictions import Model, Prediction, PredictionError, Predictions
from app.settings import Settings, SettingsError, settings
from app.ui_state import plain, refuse, sentence

# How often the page looks whether another version is served, or the database is back.
REFRESH_SECONDS = 3
NO_MODEL = "No version of the model {model} holds the stage {stage} yet: run the pipeline (`make pipeline`)."


def main() -> None:
    """Draw the page once."""
    st.set_page_config(page_title="Predictions", layout="wide")
    try:
        chosen = settings()
        st.title(chosen.project_name, anchor=False)
        st.write(plain(chosen.description))
        predictions = pool()
    except SettingsError as error:
        st.error(plain(str(error)))
        return
    found = look(predictions, chosen)
    if isinstance(found, str):
        st.info(f"{found} This page looks again by itself.")
    else:
        show(predictions, chosen, found)
    keep_up(predictions, chosen, found)


@st.cache_resource(show_spinner=False)
def pool() -> Predictions:
    """Return the connections that all visitors share. Raises SettingsError."""
    return Predictions(settings(), settings().pool_size)


def look(predictions: Predictions, chosen: Settings) -> Model | str:
    """Return the model that is served, or the sentence that says why there is none."""
    try:
        return predictions.model() or NO_MODEL.format(model=plain(chosen.model), stage=chosen.stage)
    except PredictionError as error:
        return plain(sentence(error))


@st.fragment(run_every=REFRESH_SECONDS)
def keep_up(predictions: Predictions, chosen: Settings, shown: Model | str) -> None:
    """Draw the page anew as soon as something else is served than what it shows."""
    if look(predictions, chosen) != shown:
        st.rerun()


def show(predictions: Predictions, chosen: Settings, model: Model) -> None:
    """Draw everything that needs a model."""
    left, right = st.columns(2, gap="large")
    with left:
        st.header(ui_input.TITLE, anchor=False)
        ui_input.choose(predictions, model)
    with right:
        st.header("Prediction", anchor=False)
        answer(predictions)
    st.divider()
    st.header("Model", anchor=False)
    describe(model)
    if chosen.include_monitoring:
        st.divider()
        st.header("Monitoring", anchor=False)
        monitor(predictions, chosen, model)


def answer(predictions: Predictions) -> None:
    """Show the prediction, or why there is none, and ask whether it is right."""
    if refused := st.session_state.get("refused"):
        st.error(plain(refused))
        return
    prediction = st.session_state.get("prediction")
    if prediction is None:
        st.write(ui_input.NOTHING_YET)
        return
    classes = st.session_state.classes
    st.metric("Label", prediction.label, help="The class with the highest probability")
    st.altair_chart(charts.probabilities(classes, prediction.probabilities, prediction.label))
    st.caption(f"prediction `{prediction.prediction_id}`, answered by version {prediction.version}")
    ask(predictions, prediction, classes)


def ask(predictions: Predictions, prediction: Prediction, classes: Sequence[str]) -> None:
    """Ask whether a prediction is right, once."""
    if recorded := st.session_state.get("recorded"):
        st.success(recorded)
        return
    st.subheader("Is that right?", anchor=False)
    correct, wrong, send = st.columns([2, 4, 2], vertical_alignment="bottom")
    correct.button("Correct", on_click=tell, args=(predictions, prediction, prediction.label), width="stretch")
    label = wrong.selectbox(
        "Wrong, it is",
        [name for name in classes if name != prediction.label],
        index=None,
        placeholder="choose a class",
        key=f"label of {prediction.prediction_id}",
    )
    send.button("Send", on_click=tell, args=(predictions, prediction, label), disabled=label is None, width="stretch")


def tell(predictions: Predictions, prediction: Prediction, label: str) -> None:
    """Record what a prediction should have been; the second click of a double click finds it recorded."""
    if st.session_state.get("recorded"):
        return
    right = f"{plain(prediction.label)} is right" if label == prediction.label else f"it is {plain(label)}"
    # Before the database is asked: Streamlit may run the second click while the first is still at it.
    st.session_state.recorded = f"Recorded: {right}. Thank you."
    try:
        predictions.record_label(prediction.prediction_id, label)
    except PredictionError as error:
        st.session_state.pop("recorded", None)
        refuse(error)


def describe(model: Model) -> None:
    """Show what is known of the model: version, scores on held-out rows, confusion matrix."""
    scores = model.metrics
    shown = {
        "Version": str(model.version),
        "Stage": model.alias,
        "Accuracy": f"{scores['accuracy_score']:.1%}",
        "F1": f"{scores['f1_score']:.3f}",
        "Held-out rows": f"{scores['rows']:,}",
    }
    promoted = model.changed_at.astimezone(datetime.UTC)
    left, right = st.columns(2, gap="large")
    with left:
        columns = [*st.columns(2), *st.columns(3)]
        for column, (label, value) in zip(columns, shown.items(), strict=True):
            column.metric(label, value)
        st.caption(f"promoted {promoted:%Y-%m-%d %H:%M} UTC, git commit `{model.git_commit}`")
    with right:
        st.subheader("Confusion matrix", anchor=False)
        st.altair_chart(charts.confusion(model.classes, scores["confusion_matrix"]))


def monitor(predictions: Predictions, chosen: Settings, model: Model) -> None:
    """Show accuracy over time, by what visitors said, and drift."""
    try:
        history, statistics = predictions.accuracy(), sorted(predictions.drift(), key=charts.position)
        enough = [row for row in statistics if row["predictions"] >= chosen.minimum_predictions]
    except PredictionError as error:
        st.warning(plain(sentence(error)))
        return
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader("Accuracy over time", anchor=False)
        served = [row for row in history if row["version"] == model.version]
        if served:
            last = served[-1]
            st.write(f"{last['accuracy']:.1%} of the last {last['labelled']} labelled predictions were right.")
        else:
            st.write(f"Nobody has said yet whether a prediction of version {model.version} is right.")
        if history:
            st.altair_chart(charts.accuracy(history, chosen.accuracy_floor))
    with right:
        st.subheader("Drift", anchor=False)
        if not statistics:
            st.write(f"Version {model.version} has not predicted anything yet.")
        elif not enough:
            seen = max(row["predictions"] for row in statistics)
            st.write(f"{seen} of {chosen.minimum_predictions} predictions: too few to judge drift by.")
        else:
            most = max(enough, key=lambda row: row["psi"])
            name, side = charts.spoken(most["statistic"]), "above" if most["psi"] > chosen.maximum_psi else "within"
            st.write(
                f"The last {most['predictions']} predictions against the training rows: "
                f"{most['psi']:.2f} at most ({name}), {side} the limit {chosen.maximum_psi:g}."
            )
            st.altair_chart(charts.drift(enough, chosen.maximum_psi))


main()
