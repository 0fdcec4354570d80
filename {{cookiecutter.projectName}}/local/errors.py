"""The one exception that a person is meant to read."""


class LocalError(Exception):
    """Something is missing or does not work; its text says what, where, and which command mends it."""
