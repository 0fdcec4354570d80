"""Locust's attackers, each of which sends the same file again and again. $IMAGE is the file."""

import os
from pathlib import Path

import locust

IMAGE = Path(os.environ["IMAGE"]).read_bytes()


class Attacker(locust.FastHttpUser):
    """A client that waits as Retry-After says; whatever it is answered is no failure."""

    wait_time = locust.constant(2)
    network_timeout = connection_timeout = 600.0

    @locust.task
    def attack(self) -> None:
        """Request a prediction."""
        files = {"image": ("blank.png", IMAGE, "image/png")}
        with self.client.post("/predictions", files=files, catch_response=True) as answer:
            answer.success()
