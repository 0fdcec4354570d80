"""Locust's clients: each sends the same image again after the previous answer.

Runs in this repository's environment, not the project's. $IMAGE is the file that is sent.
"""

import os
import pathlib

import locust.stats
import requests

FORM = requests.Request(
    "POST", "http://localhost", files={"image": ("image.png", pathlib.Path(os.environ["IMAGE"]).read_bytes())}
).prepare()
# Locust rounds times to two digits.
locust.stats.bucket_response_time = lambda milliseconds: round(milliseconds, 1)


class Client(locust.FastHttpUser):
    """One client on a persistent connection; an answer with a status of 400 or more is a failure."""

    network_timeout = 30.0

    @locust.task
    def predict(self) -> None:
        """Request one prediction."""
        self.client.post("/predictions", data=FORM.body, headers=dict(FORM.headers))
