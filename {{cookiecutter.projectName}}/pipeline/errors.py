"""The exceptions whose text a person reads."""


class StepError(Exception):
    """A step cannot go on. The text is one sentence: what is wrong, where, and how to fix it."""


class TemporaryError(StepError):
    """A database or MLflow is away; the same step may succeed a little later."""
