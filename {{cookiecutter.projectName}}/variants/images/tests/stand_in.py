"""A stand-in for the database behind the API, and images to send."""

import contextlib
import datetime
import io

from fastapi.testclient import TestClient
from PIL import Image

from app import endpoints
from app.authentication import authenticator
from app.predictions import Model, Prediction, RefusedInput, UnknownPrediction, WaitingForModel
from app.settings import Settings

NOW = datetime.datetime(2026, 1, 31, tzinfo=datetime.UTC)
MODEL = Model("pictures", "staging", 3, ("cat", "dog"), (2, 2, 1), "uint8", {}, "hash", "commit", NOW, NOW, {})
SETTINGS = Settings("pictures", "Cats and dogs.", "staging", True, 0.5, 0.25, 200)
ID = "0b1f7c9e-3d52-4c8a-9a57-0f6f7f1f2c11"


class StandIn:
    """Answers as the database would. `served_models` are served one after the other, the last one forever."""

    def __init__(self, *served_models: Model | None) -> None:
        self.models = list(served_models) or [MODEL]
        self.rows: list[bytes] = []
        self.subjects: list[str] = []
        self.error: Exception | None = None
        self.closed = False

    def model(self, newest: bool = False) -> Model | None:
        if newest and len(self.models) > 1:
            self.models.pop(0)
        if self.error:
            raise self.error
        return self.models[0]

    def served(self, newest: bool = False) -> Model:
        model = self.model(newest)
        if not model:
            raise WaitingForModel("no version yet")
        return model

    def classes(self, version: int) -> tuple[str, ...]:
        return MODEL.classes

    def predict_many(self, rows: list[bytes], subject: str) -> list[Prediction]:
        self.rows += rows
        self.subjects.append(subject)
        height, width, channels = self.models[-1].input_shape
        if any(len(row) != height * width * channels for row in rows):
            raise RefusedInput("wrong number of bytes")
        return [Prediction(ID, "dog", (0.25, 0.75), "pictures", self.models[-1].version) for _ in rows]

    def record_label(self, prediction_id: str, label: str, subject: str) -> dict:
        self.subjects.append(subject)
        if label not in MODEL.classes:
            raise RefusedInput("allowed is one of cat, dog")
        if prediction_id != ID:
            raise UnknownPrediction("there is no such prediction")
        return {"prediction_id": ID, "label": label, "predicted_label": "dog", "model": "pictures", "version": 3}

    def close(self) -> None:
        self.closed = True


@contextlib.contextmanager
def serving(stand_in: StandIn, settings: Settings = SETTINGS):
    app = endpoints.create_app(settings, stand_in, authenticator(settings))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def png(*pixels: int, size=(2, 2)) -> bytes:
    buffer = io.BytesIO()
    picture = Image.new("L", size)
    picture.putdata(pixels or [0] * (size[0] * size[1]))
    picture.save(buffer, "PNG")
    return buffer.getvalue()
