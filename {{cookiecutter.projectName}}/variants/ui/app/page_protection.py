"""Middleware for the page alone."""

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

# Streamlit and its charts need scripts and styles within pages, so the policy leaves these open.
POLICY = "frame-ancestors 'none'; base-uri 'self'; form-action 'self'; object-src 'none'"
METRICS = "/_stcore/metrics"


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
