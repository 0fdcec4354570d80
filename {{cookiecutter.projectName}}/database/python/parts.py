"""The parts of a compiled model, its weights and optimizer slots: their values at first, and their assignment."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, TypedDict

    import numpy as np
    import numpy.typing as npt

    class Parts(TypedDict):
        """Weights, then optimizer slots; TensorFlow's variables have no types."""

        parts: list[Any]
        # The number of values of each.
        sizes: list[int]
        # Values of the weights alone.
        weight_count: int
        # All parts, float32, as initialised from the seed.
        initial: npt.NDArray[np.float32]
        random_states: list[Any]


def starting_values(entry: "Parts", weights: "bytes | memoryview") -> "npt.NDArray[np.float32]":
    """Return the values of all parts before the first row; NaN stands for a value as initialised. Raises ValueError."""
    import numpy as np

    values = part_values(entry, weights)
    return np.where(np.isnan(values), entry["initial"], values)


def part_values(entry: "Parts", data: "bytes | memoryview") -> "npt.NDArray[np.float32]":
    """Return the values of all parts from weights, with optimizer slots if `data` has them. Raises ValueError.

    Without them the slots start afresh; without any number, so do the weights.
    """
    import numpy as np

    initial, weight_count = entry["initial"], entry["weight_count"]
    if len(data) % 4:
        raise ValueError(f"weights has {len(data)} bytes; it must be float32 numbers of 4 bytes")
    values = np.frombuffer(data, "<f4")
    if len(values) == 0:
        return initial
    if len(values) == weight_count:
        return np.concatenate([values, initial[weight_count:]])
    if len(values) != len(initial):
        raise ValueError(
            f"weights has {len(values)} numbers; the model has {weight_count}, with optimizer slots {len(initial)}"
        )
    return values


def load_parts(entry: "Parts", values: "npt.NDArray[np.float32]") -> None:
    """Assign the values to weights and optimizer slots."""
    start = 0
    for part, size in zip(entry["parts"], entry["sizes"]):
        part.assign(values[start : start + size].reshape(part.shape).astype(part.dtype))
        start += size


def load_random_states(seed: int, epoch: int, entry: "Parts") -> None:
    """Seed the model's random layers, such as dropout, for the epoch."""
    import numpy as np

    for random_state in entry["random_states"]:
        random_state.assign(np.array([seed, epoch], random_state.dtype))
