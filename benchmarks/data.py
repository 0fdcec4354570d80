"""Synthetic images in the shape of CIFAR-10: uint8 32×32×3, ten classes, one soft blob per class."""

import numpy as np

SHAPE = (32, 32, 3)
CLASSES = [f"class {number}" for number in range(10)]
SEED = 20_261


def images(rows: int, seed: int = SEED) -> tuple[np.ndarray, np.ndarray]:
    """Return (rows, 32, 32, 3) uint8 and (rows,) int32: a blob per class, and noise."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, len(CLASSES), rows, dtype=np.int32)
    patterns = _patterns(np.random.default_rng(SEED))
    noise = random.integers(0, 96, (rows, *SHAPE), dtype=np.uint8)
    return noise + patterns[labels], labels


def _patterns(random: np.random.Generator) -> np.ndarray:
    """Return one blob per class, (10, 32, 32, 3) uint8 up to 159."""
    y, x = np.mgrid[0 : SHAPE[0], 0 : SHAPE[1]]
    blobs = []
    for _ in CLASSES:
        row, column = random.uniform(8, 24, 2)
        blob = np.exp(-((y - row) ** 2 + (x - column) ** 2) / 60)
        blobs.append(blob[..., None] * random.uniform(40, 159, SHAPE[2]))
    return np.array(blobs).astype(np.uint8)
