"""Middleware for the page alone."""

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.protection import HOST_REFUSED

# Streamlit and its charts need scripts and styles within pages, so the policy leaves these open.
POLICY = "frame-ancestors 'none'; base-uri 'self'; form-action 'self'; object-src 'none'"
METRICS = "/_stcore/metrics"
PROBES = ("/_stcore/health",)
# The path of Streamlit's uploads; the session follows.
UPLOADS = "/_stcore/upload_file/"
MOST_VISITS = 10_000


def refuse_host(request: Request) -> Response:
    """Return the answer to a request for another host name."""
    return PlainTextResponse(HOST_REFUSED, 400)


class NoMetrics:
    """Answers 404 for Streamlit's metrics, which are for operators and which no option of Streamlit switches off."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http" and scope["path"].rstrip("/") == METRICS:
            await PlainTextResponse("Not Found", 404)(scope, receive, send)
            return
        await self.app(scope, receive, send)


class Visits:
    """The sessions of visitors who have signed in."""

    def __init__(self) -> None:
        self._sessions: dict[str, None] = {}

    def add(self, session: str) -> None:
        """Remember a session; the oldest is forgotten beyond MOST_VISITS, and its visitor is asked again."""
        self._sessions.pop(session, None)
        self._sessions[session] = None
        if len(self._sessions) > MOST_VISITS:
            del self._sessions[next(iter(self._sessions))]

    def remove(self, session: str) -> None:
        """Forget a session."""
        self._sessions.pop(session, None)

    def __contains__(self, session: str) -> bool:
        """Return whether the visitor of a session has signed in."""
        return session in self._sessions


# ui.py and the server run in one process.
VISITS = Visits()


class UploadsOfVisitors:
    """Answers 403 to an upload of a session whose visitor has not signed in: Streamlit would keep it in memory."""

    def __init__(self, app: ASGIApp, visits: Visits) -> None:
        self.app = app
        self.visits = visits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        path = scope["path"] if scope["type"] == "http" else ""
        # The base address of the page may stand before it.
        _, upload, rest = path.partition(UPLOADS)
        if upload and scope["method"] != "OPTIONS" and rest.split("/")[0] not in self.visits:
            await PlainTextResponse("Forbidden", 403)(scope, receive, send)
            return
        await self.app(scope, receive, send)
