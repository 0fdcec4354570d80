"""Images that are nearly equal count once."""

import numpy as np

from pipeline.data import near_duplicates
from pipeline.user_code import load_dataset


def noisy(images: np.ndarray, level: float) -> np.ndarray:
    noise = np.random.default_rng(3).normal(0, level, images.shape)
    return np.clip(images + noise, 0, 255).round().astype(images.dtype)


def test_few_images_of_a_data_set_are_near_another() -> None:
    features = load_dataset().features
    first = near_duplicates.first_of_each(features[:500], features[500:])
    assert len(first) > 490


def test_noisy_copies_are_near_and_the_first_one_counts() -> None:
    features = load_dataset().features
    copies = noisy(features[:40], 3)
    assert near_duplicates.first_of_each(copies, features).tolist() == []
    both = np.concatenate([features[:40], copies])
    assert near_duplicates.first_of_each(both, features[40:]).tolist() == list(range(40))


def test_many_rows_are_compared_in_parts(monkeypatch) -> None:
    features = load_dataset().features
    both = np.concatenate([features[:30], noisy(features[:30], 3)])
    expected = near_duplicates.first_of_each(both, features[30:]).tolist()
    monkeypatch.setattr(near_duplicates, "ROWS_AT_ONCE", 7)
    assert near_duplicates.first_of_each(both, features[30:]).tolist() == expected


def test_thumbnails_are_means_of_parts() -> None:
    images = np.arange(2 * 40 * 3 * 2, dtype=np.float32).reshape(2, 40, 3, 2)
    small = near_duplicates.thumbnails(images)
    assert small.shape == (2, 16 * 3 * 2)
    assert small[0, 0] == images[0, :2, 0, 0].mean()
    assert small[1, -1] == images[1, 37:, -1, -1].mean()
