"""Locust's clients, which send an image and sometimes a label. $IMAGE is the file that they send."""

import os
from pathlib import Path

import locust

IMAGE = Path(os.environ["IMAGE"]).read_bytes()


class Visitor(locust.FastHttpUser):
    """A client that does not wait between requests; a status of 400 or more is a failure."""

    network_timeout = connection_timeout = 30.0

    @locust.task(4)
    def predict(self) -> None:
        """Request a prediction."""
        self.client.post("/predictions", files={"image": ("image.png", IMAGE, "image/png")})

    @locust.task(1)
    def correct(self) -> None:
        """Request a prediction and label it."""
        with self.client.post("/predictions", files={"image": ("image.png", IMAGE, "image/png")}) as answer:
            prediction = answer.json()
        path = f"/predictions/{prediction['prediction_id']}/label"
        self.client.post(path, json={"label": prediction["label"]}, name="/predictions/{prediction_id}/label")
