"""Sends the holdout of a project's data set to its API as PNG files; prints the accuracy, its rows and one answer.

python holdout_as_files.py     in the project's folder, with its pipeline environment and bindings
"""

import io
import json
import sys
import warnings
from typing import Any

MOST_FILES = 64


def main() -> None:
    """Ask the API, and write a JSON object to standard output."""
    warnings.simplefilter("ignore")
    sys.path.insert(0, ".")
    from app.authentication import Nobody
    from app.endpoints import create_app
    from app.predictions import Predictions
    from app.settings import settings
    from fastapi.testclient import TestClient
    from pipeline.data.mini_batches import row_digests, split_rows
    from pipeline.data.pixels import load_images, pixel_format

    data = load_images()
    holdout = split_rows(row_digests(data.features))["holdout"]
    files = [png(data.features[number], pixel_format(data)) for number in holdout]
    labels = [data.classes[data.labels[number]] for number in holdout]
    answers: list[dict[str, Any]] = []
    with TestClient(create_app(settings(), Predictions(settings(), 2), Nobody())) as client:
        for start in range(0, len(files), MOST_FILES):
            parts = [
                ("images", (f"{number}.png", file)) for number, file in enumerate(files[start : start + MOST_FILES])
            ]
            answers += client.post("/predictions/batch", files=parts).raise_for_status().json()["predictions"]
    right = sum(answer["label"] == label for answer, label in zip(answers, labels, strict=True))
    json.dump({"accuracy": right / len(files), "rows": len(files), "answer": answers[0]}, sys.stdout)


def png(row: Any, pixels: dict[str, Any]) -> bytes:
    """Return a row as the file that a person would send, by arithmetic of its own."""
    import numpy as np
    from PIL import Image

    share = (row.astype("f8") - pixels["minimum"]) / (pixels["maximum"] - pixels["minimum"])
    levels = np.rint(share * 255).astype("u1")
    if pixels["channels"] == "BGR":
        levels = levels[..., ::-1]
    file = io.BytesIO()
    Image.fromarray(levels[..., 0] if levels.shape[-1] == 1 else levels).save(file, "PNG")
    return file.getvalue()


if __name__ == "__main__":
    main()
