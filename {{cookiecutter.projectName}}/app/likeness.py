"""Inputs that are unlike every row that the model was trained on."""

from collections.abc import Mapping

from app.predictions import Model

# Share of the training rows' range by which a value may lie outside of it.
MARGIN = 0.1


def outside(model: Model, values: Mapping[str, float]) -> list[str]:
    """Return a phrase per statistic whose value lies well outside of all training rows, empty when none does."""
    phrases = []
    for known in model.inputs:
        value = values.get(known["statistic"])
        if value is None or "minimum" not in known or "maximum" not in known:
            continue
        low, high = known["minimum"], known["maximum"]
        margin = MARGIN * (high - low)
        if not low - margin <= value <= high + margin:
            name = known["statistic"].replace("_", " ")
            phrases.append(f"{name} {value:.3g} (training rows: {low:.3g} to {high:.3g})")
    return phrases
