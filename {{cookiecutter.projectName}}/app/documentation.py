"""The page /docs: Swagger UI with names and colours that all visitors can perceive, light or dark as they prefer."""

import html
import pathlib
import string

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, RedirectResponse

PAGE = pathlib.Path(__file__).with_name("documentation.html")


def add(app: FastAPI) -> None:
    """Add the page, and redirect visitors of the API's address to it."""
    page = string.Template(PAGE.read_text(encoding="utf-8"))

    @app.get("/docs", include_in_schema=False)
    async def documentation(request: Request) -> HTMLResponse:
        """Return the page; its files come from this server."""
        return HTMLResponse(page.substitute(title=html.escape(f"{app.title} API"), root=html.escape(_root(request))))

    @app.get("/", include_in_schema=False)
    async def root(request: Request) -> RedirectResponse:
        """Redirect to the page."""
        return RedirectResponse(f"{_root(request)}/docs")


def _root(request: Request) -> str:
    """Return the prefix under which a proxy serves the API, if there is one."""
    prefix: str = request.scope.get("root_path", "")
    return prefix
