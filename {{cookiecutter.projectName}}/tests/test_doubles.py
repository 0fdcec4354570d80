"""Constants that the walls between the rooms keep twice are the same."""

import local.next_commands
import local.steps
from pipeline import tracking
from pipeline.commands import check


def test_both_print_the_same_view_of_mlflow() -> None:
    assert local.next_commands.TRAINING_VIEW == tracking.TRAINING_VIEW


def test_both_know_the_chains() -> None:
    assert local.steps.CHAINS == check.CHAINS
