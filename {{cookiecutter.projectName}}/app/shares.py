"""What requests in progress hold together, such as places or bytes, and the part of it that one subject may hold."""

import collections

from app.subjects import ANONYMOUS


class Shares:
    """An amount that subjects hold parts of: one of them at most half, unless everybody is anonymous.

    A subject that holds nothing may always take one part.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._held: collections.Counter[str] = collections.Counter()

    def take(self, subject: str, amount: int) -> bool:
        """Give an amount to a subject, and return whether there was enough left for it."""
        share = self._total if subject == ANONYMOUS.name else self._total // 2
        held = self._held.get(subject, 0)
        if (held and held + amount > share) or self._held.total() + amount > self._total:
            return False
        self._held[subject] = held + amount
        return True

    def give_back(self, subject: str, amount: int) -> None:
        """Take an amount back from a subject."""
        self._held[subject] -= amount
        if not self._held[subject]:
            del self._held[subject]

    def __len__(self) -> int:
        """Return how many subjects hold something."""
        return len(self._held)
