"""Middleware for the API and the page: security headers, and the host names that are answered."""

from collections.abc import Callable, Collection, Mapping, Sequence

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}
# For answers that are no pages.
NO_PAGE = "default-src 'none'; frame-ancestors 'none'"
HOST_REFUSED = "this host name is not among ALLOWED_HOSTS"
# Probes address a pod by its IP.
PROBES = ("/healthz", "/readyz")


class SecurityHeaders:
    """Adds security headers to each answer that does not have them yet."""

    def __init__(self, app: ASGIApp, headers: Mapping[str, str]) -> None:
        """Add HEADERS and `headers`."""
        self.app = app
        self.headers = [(name.lower().encode(), value.encode()) for name, value in {**HEADERS, **headers}.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                sent = list(message.get("headers", ()))
                present = {name.lower() for name, _ in sent}
                message["headers"] = sent + [header for header in self.headers if header[0] not in present]
            await send(message)

        await self.app(scope, receive, answer)


class Hosts:
    """Refuses requests for other host names than the allowed ones; all are allowed if none is named."""

    def __init__(
        self, app: ASGIApp, allowed: Sequence[str], exempt: Collection[str], refuse: Callable[[Request], Response]
    ) -> None:
        """Answer `exempt` paths whatever the host name; `*.example.com` allows the names below example.com."""
        self.app = app
        self.refuse = refuse
        self.names = {name for name in allowed if not name.startswith("*.")}
        self.suffixes = tuple(name[1:] for name in allowed if name.startswith("*."))
        self.exempt = exempt

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] not in ("http", "websocket") or self._is_allowed(scope):
            await self.app(scope, receive, send)
            return
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        await self.refuse(Request(scope))(scope, receive, send)

    def _is_allowed(self, scope: Scope) -> bool:
        if not (self.names or self.suffixes) or scope["path"] in self.exempt:
            return True
        header = Headers(scope=scope).get("host", "").lower()
        # The port, which may follow an IPv6 address in brackets.
        name = header if header.endswith("]") else header.rpartition(":")[0] or header
        return name in self.names or name.endswith(self.suffixes)
