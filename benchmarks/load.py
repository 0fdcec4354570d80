"""Locust's clients: each sends the same image again as soon as the last answer is there.

Runs in this repository's environment, not the project's. $IMAGE is the file that is sent.
"""

import os
import pathlib

import locust.stats
import requests

FORM = requests.Request(
    "POST", "http://localhost", files={"image": ("image.png", pathlib.Path(os.environ["IMAGE"]).read_bytes())}
).prepare()
# Locust would keep two digits of each time.
locust.stats.bucket_response_time = lambda milliseconds: round(milliseconds, 1)


class Client(locust.FastHttpUser):
    """One client on a connection that is kept open; an answer with a status of 400 or more is a failure."""

    network_timeout = 30.0

    @locust.task
    def predict(self) -> None:
        """Ask for one prediction."""
        self.client.post("/predictions", data=FORM.body, headers=dict(FORM.headers))
