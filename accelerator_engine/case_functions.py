"""Functions that convert a name from one case to another, such as `#camel2Kebab(name)`."""

import re
from collections.abc import Callable, Iterable

from accelerator_engine.java_types import Method, methods


def _words(text: str, style: str) -> list[str]:
    """Split a name into lower-case words; in camel and pascal case a capital starts a word."""
    if style in ("camel", "pascal"):
        return [word.lower() for word in re.findall(r"[A-Z][^A-Z]*|^[^A-Z]+", text)]
    return [word.lower() for word in text.split("-" if style == "kebab" else "_")]


def _spell(words: Iterable[str], style: str) -> str:
    if style in ("kebab", "snake"):
        return ("-" if style == "kebab" else "_").join(words)
    name = "".join(word.capitalize() for word in words)
    return name if style == "pascal" else name[:1].lower() + name[1:]


_STYLES = ("camel", "kebab", "pascal", "snake")


def _conversion(source: str, target: str) -> tuple[Callable[[str], str], str]:
    return lambda text: _spell(_words(text, source), target), "text"


CASE_FUNCTIONS: dict[str, Method] = methods(
    "the case functions",
    {
        f"{source}2{target.capitalize()}": _conversion(source, target)
        for source in _STYLES
        for target in _STYLES
        if source != target
    },
)
