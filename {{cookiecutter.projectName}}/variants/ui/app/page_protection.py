"""Middleware for the page alone."""

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.protection import HOST_REFUSED

# Streamlit and its charts need scripts and styles within pages, so the policy leaves these open.
POLICY = "frame-ancestors 'none'; base-uri 'self'; form-action 'self'; object-src 'none'"
METRICS = "/_stcore/metrics"
PROBES = ("/_stcore/health",)


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
