"""The one exception that a person is meant to read."""


class StepError(Exception):
    """A step cannot go on; its text is one sentence: what is wrong, where, and what mends it."""
