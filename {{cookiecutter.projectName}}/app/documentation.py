"""The page /docs: Swagger UI with names and colours that all visitors can perceive, light or dark as they prefer."""

import base64
import hashlib
import html
import pathlib
import re
import string

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, RedirectResponse

SCRIPT = re.compile("<script>(.*?)</script>", re.DOTALL)
PAGE = pathlib.Path(__file__).with_name("documentation.html")


def add(app: FastAPI) -> None:
    """Add the page, and redirect visitors of the API's address to it."""
    page = string.Template(PAGE.read_text(encoding="utf-8"))

    @app.get("/docs", include_in_schema=False)
    async def documentation(request: Request) -> HTMLResponse:
        """Return the page; its files come from this server."""
        content = page.substitute(title=html.escape(f"{app.title} API"), root=html.escape(_root(request)))
        return HTMLResponse(content, headers={"Content-Security-Policy": _policy(content)})

    @app.get("/", include_in_schema=False)
    async def root(request: Request) -> RedirectResponse:
        """Redirect to the page."""
        return RedirectResponse(f"{_root(request)}/docs")


def _policy(content: str) -> str:
    """Return the policy of the page: files of this server, and the page's own script, which is named by its hash."""
    script = base64.b64encode(hashlib.sha256(SCRIPT.findall(content)[-1].encode()).digest()).decode()
    return (
        f"default-src 'self'; script-src 'self' 'sha256-{script}'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _root(request: Request) -> str:
    """Return the prefix under which a proxy serves the API, if there is one."""
    prefix: str = request.scope.get("root_path", "")
    return prefix
