"""The trust in labels: shares of a data set, doubtful subjects, and the comparison of two models."""

import numpy as np
import pytest
from scipy import stats

from pipeline.data import feedback
from pipeline.data.feedback import Limits, SubjectLabels
from pipeline.registry.paired_comparison import compare


def test_labelled_rows_are_a_share_of_all_rows() -> None:
    """By the shares 0.2 and 0.05 of project.yaml."""
    assert feedback.limits(8000) == Limits(2000, 421)
    assert feedback.limits(3) == Limits(0, 0)
    by_split = feedback.limits_by_split({"train": 800, "validation": 100, "holdout": 100})
    assert by_split == {"train": Limits(200, 42), "feedback": Limits(50, 10)}


@pytest.mark.parametrize(
    ("labels", "error", "doubtful"),
    [
        # One of four disagrees always, the others hardly ever.
        ([("a", 50, 50), ("b", 50, 2), ("c", 50, 1), ("d", 50, 0)], 0.02, ["a"]),
        # Two of five.
        ([("a", 200, 190), ("b", 200, 200), ("c", 20, 1), ("d", 20, 0), ("e", 20, 1)], 0.02, ["a", "b"]),
        # One who agrees always does not make the others doubtful after the inputs changed.
        ([("a", 100, 20), ("b", 100, 22), ("c", 100, 18), ("d", 100, 0)], 0.03, []),
        # All disagree.
        ([("a", 50, 40), ("b", 50, 35), ("c", 50, 45), ("d", 50, 41)], 0.02, []),
        # Too few to compare with.
        ([("a", 500, 500)], 0.02, []),
        ([("a", 500, 500), ("b", 50, 0), ("c", 50, 0), ("d", 9, 0)], 0.02, []),
        # The model itself is as often wrong.
        ([("a", 50, 30), ("b", 50, 0), ("c", 50, 0), ("d", 50, 0)], 0.6, []),
        ([("a", 50, 0), ("b", 50, 0), ("c", 50, 0), ("d", 50, 0)], 0.0, []),
    ],
)
def test_a_subject_far_beyond_chance_is_doubtful(labels, error, doubtful) -> None:
    given = [SubjectLabels(*each) for each in labels]
    assert [each.subject for each in feedback.doubtful_subjects(given, error)] == doubtful


def test_a_name_cannot_command_a_terminal() -> None:
    assert feedback.printable("a\x1b[2J\nb\u202e" + "c" * 500) == "a?[2J?b?" + "c" * 247


def answers(both: int, candidate: int, served: int, none: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which rows two models answer correctly: both of them, one alone, or none."""
    counts = (both, candidate, served, none)
    return np.repeat([True, True, False, False], counts), np.repeat([True, False, True, False], counts)


def test_the_p_value_is_that_of_the_exact_test() -> None:
    comparison = compare(*answers(80, 3, 12, 5))
    assert comparison.p_value == pytest.approx(stats.binomtest(12, 15, 0.5, "greater").pvalue, rel=1e-12)
    assert (comparison.rows, comparison.candidate, comparison.served) == (100, 0.83, 0.92)
    assert compare(*answers(9, 1, 0, 0)).p_value == 1


@pytest.mark.parametrize(
    ("counts", "loses_too_much", "is_significantly_worse"),
    [
        ((900, 50, 40, 10), False, False),
        ((900, 45, 50, 5), False, False),
        ((9900, 10, 30, 60), False, True),
        ((90, 0, 2, 8), True, False),
        ((149, 0, 1, 0), False, False),
    ],
)
def test_a_candidate_is_worse_beyond_chance_or_beyond_a_point(counts, loses_too_much, is_significantly_worse) -> None:
    comparison = compare(*answers(*counts))
    assert (comparison.loses_too_much, comparison.is_significantly_worse) == (loses_too_much, is_significantly_worse)
