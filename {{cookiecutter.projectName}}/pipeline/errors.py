"""The exceptions that a person is meant to read."""


class StepError(Exception):
    """A step cannot go on; its text is one sentence: what is wrong, where, and what mends it."""


class TemporaryError(StepError):
    """What may pass by itself, a database or MLflow that is away: the same step may succeed a little later."""
