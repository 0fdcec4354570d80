"""Users of the app, run in a project's environment: they send pictures and label them.

`python people.py ADDRESS CHANGE FIRST COUNT` sends COUNT of the project's images from number FIRST on, as PNG, each
changed in the same way, labels every prediction correctly, and prints a JSON list of
{label, probabilities, version, true}.
"""

import io
import json
import sys

import httpx
import numpy as np
from PIL import Image
from pipeline.user_code import load_dataset

CHANGES = {
    "as they are": lambda image: image,
    "inverted": lambda image: 255 - image,
    "rotated": lambda image: np.rot90(image),
}


def png(image: np.ndarray) -> bytes:
    """Return an image (h, w, 1) as PNG."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image[..., 0])).save(file, "PNG")
    return file.getvalue()


def main(address: str, change: str, first: int, count: int) -> None:
    """Send, label and print."""
    data = load_dataset()
    chosen = np.random.default_rng(5).permutation(len(data.labels))[first : first + count]
    answers = []
    with httpx.Client(base_url=address, timeout=30) as client:
        for number in chosen:
            true = data.classes[data.labels[number]]
            picture = png(CHANGES[change](data.features[number]))
            answer = client.post("/predictions", files={"image": ("image.png", picture, "image/png")})
            answer.raise_for_status()
            answers.append({**answer.json(), "true": true})
            label = client.post(f"/predictions/{answers[-1]['prediction_id']}/label", json={"label": true})
            label.raise_for_status()
    sys.stdout.write(json.dumps(answers))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
