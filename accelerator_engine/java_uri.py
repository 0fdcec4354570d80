"""Addresses as Spring's `UriComponentsBuilder` reads them."""

import functools
import re

from accelerator_engine.java_types import NotAllowed, Table, methods

# The grammar of RFC 3986, a little looser.
_URI = re.compile(
    r"(?:(?P<scheme>[^:/?#]+):)?"
    r"(?://(?:(?P<user>[^@\[/?#]*)@)?(?P<host>\[[0-9A-Fa-f:.]*[%0-9A-Za-z]*\]|[^\[/?#:]*)(?::(?P<port>[0-9]*))?)?"
    r"(?P<path>[^?#]*)(?:\?(?P<query>[^#]*))?(?:\#(?P<fragment>.*))?",
    re.DOTALL,
)


class Uri:
    """The parts of an address: `T(…UriComponentsBuilder).fromUriString(text).build(true)`."""

    def __init__(self, text: str) -> None:
        """Split an address into its parts. Raises NotAllowed for a text that is not an address."""
        # As in Spring, a host without // is read as a path.
        parts = _URI.fullmatch(text)
        if parts is None or len(parts["port"] or "") > 5:
            raise NotAllowed(f"{text[:80]!r} is not an address")
        if (parts["scheme"] or "").startswith("http") and not parts["host"]:
            raise NotAllowed(f"{text[:80]!r} is not an address: a host is missing")
        self._text = text
        properties = {
            "scheme": parts["scheme"],
            "userInfo": parts["user"],
            "host": parts["host"] or None,
            "port": int(parts["port"]) if parts["port"] else -1,
            "path": parts["path"],
            "pathSegments": [part for part in parts["path"].split("/") if part],
            "query": parts["query"] or None,
            "queryParams": self._query(parts["query"] or ""),
            "fragment": parts["fragment"] or None,
        }
        getters: Table = {f"get{name[0].upper()}{name[1:]}": (functools.partial(properties.get, name), "")
                   for name in properties}  # fmt: skip
        steps: Table = {
            "build": (lambda *_: self, "any?"),
            "encode": (lambda: self, ""),
            "toString": (lambda: text, ""),
            "toUriString": (lambda: text, ""),
        }
        self.methods = methods("UriComponents", steps | getters)

    def __str__(self) -> str:
        return self._text

    @staticmethod
    def _query(query: str) -> dict[str, list[str | None]]:
        parameters: dict[str, list[str | None]] = {}
        for name, equals, value in re.findall(r"([^&=]+)(=?)([^&]*)", query):
            parameters.setdefault(name, []).append(value if equals else None)
        return parameters

    @staticmethod
    def from_text(text: str) -> "Uri":
        """Return the address that a text holds."""
        return Uri(text)
