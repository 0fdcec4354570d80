"""Attackers who label wrongly, beside honest users, run in a project's environment with the app's login.

`python poisoning.py SHARE SUBJECTS NOISE` sends LABELS noisy images of the project's own data. The share SHARE of them
comes from SUBJECTS attackers, who label every image with the class after the true one; honest users label the others
correctly. NOISE is the deviation of the noise in levels of the pixels.
"""

import sys

import numpy as np
from pipeline.databases import query, session
from pipeline.settings import settings
from pipeline.user_code import load_dataset

LABELS = 600
HONEST = 3


def main(share: float, subjects: int, noise: float) -> None:
    """Predict and label."""
    data, random = load_dataset(), np.random.default_rng(11)
    connection = session("inference-app")
    rows, attacks = random.choice(len(data.labels), LABELS), random.permutation(LABELS) < round(LABELS * share)
    for number, (row, is_attack) in enumerate(zip(rows, attacks, strict=True)):
        image = np.clip(data.features[row] + random.normal(0, noise, data.shape), 0, 255).round()
        subject = f"attacker-{number % subjects}" if is_attack else f"user-{number % HONEST}"
        label = data.classes[(data.labels[row] + is_attack) % len(data.classes)]
        with connection:
            answer = query(
                connection,
                "SELECT {schema}.run_inference_task(%s, %s, %s, %s)",
                (image.astype(data.features.dtype).tobytes(), settings().model, settings().promotion_stage, subject),
            )[0][0]
            query(connection, "SELECT {schema}.record_label(%s, %s, %s)", (answer["prediction_id"], label, subject))


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
