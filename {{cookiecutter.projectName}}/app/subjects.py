"""Subjects: the people and programs that ask, and their roles."""

import dataclasses

# predict: predictions and the model's description; label: true labels; operate: nothing yet.
ROLES = ("predict", "label", "operate")


class NotAuthenticated(Exception):
    """The request proves no identity; the text is one sentence, which holds no part of a key or a token."""


class IssuerAway(Exception):
    """The issuer of the tokens does not answer; the text is one sentence."""


@dataclasses.dataclass(frozen=True)
class Subject:
    """A person or a program, and its roles."""

    name: str
    roles: frozenset[str]


# Everybody, where nothing is authenticated.
ANONYMOUS = Subject("anonymous", frozenset(ROLES))
# A client that asks for something public without credentials.
UNKNOWN = Subject("anonymous", frozenset())
