"""Middleware that authenticates each request and checks the subject's role, before the body is read."""

from typing import Any, Protocol

import anyio
import anyio.to_thread
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api_keys import ApiKeys
from app.problems import BUSY_SECONDS, problem
from app.protection import PROBES
from app.settings import Settings, SettingsError
from app.subjects import ANONYMOUS, UNKNOWN, IssuerAway, NotAuthenticated, Subject
from app.tokens import Tokens

# Paths that need no authentication: they hold nothing of the model and nothing that was sent.
PUBLIC = ("/", "/healthz", "/readyz", "/docs", "/openapi.json")
PUBLIC_FILES = "/static-offline-docs/"
SCHEME = {
    "type": "http",
    "scheme": "bearer",
    "description": "An API key, or a token of the OpenID Connect provider. None is needed with AUTHENTICATION=none.",
}
# Threads that check tokens, which may wait for the issuer.
CHECKERS = 4


class Authenticator(Protocol):
    """Finds out who sent a request."""

    async def subject(self, credentials: str) -> Subject:
        """Return the subject that the credentials prove. Raises NotAuthenticated, IssuerAway."""


class Nobody:
    """Authenticates nothing: everybody is anonymous, with all roles."""

    async def subject(self, credentials: str) -> Subject:
        """Return the anonymous subject."""
        return ANONYMOUS


class ByKey:
    """Authenticates by API keys."""

    def __init__(self, keys: ApiKeys) -> None:
        self._keys = keys

    async def subject(self, credentials: str) -> Subject:
        """Return the subject of a key. Raises NotAuthenticated."""
        if not credentials:
            raise NotAuthenticated("an API key is needed: send the header Authorization with Bearer and the key")
        return self._keys.subject(credentials)


class ByToken:
    """Authenticates by tokens of an OpenID Connect provider."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._threads = anyio.CapacityLimiter(CHECKERS)

    async def subject(self, credentials: str) -> Subject:
        """Return the subject of a token. Raises NotAuthenticated, IssuerAway."""
        if not credentials:
            raise NotAuthenticated("a token is needed: send the header Authorization with Bearer and the token")
        return await anyio.to_thread.run_sync(self._tokens.subject, credentials, limiter=self._threads)


def authenticator(settings: Settings) -> Authenticator:
    """Return the authenticator that the settings name. Raises SettingsError."""
    if settings.authentication == "none":
        return Nobody()
    if settings.authentication == "api-key":
        return ByKey(ApiKeys(settings.keys_folder()))
    if settings.oidc is None:
        raise SettingsError("AUTHENTICATION is oidc, and OIDC_ISSUER and OIDC_AUDIENCE are not set")
    return ByToken(Tokens(settings.oidc))


def role_of(path: str) -> str | None:
    """Return the role that a path needs, None for a public one; an unknown path needs one, too."""
    if path in PUBLIC or path.startswith(PUBLIC_FILES):
        return None
    return "label" if path.startswith("/predictions/") and path.endswith("/label") else "predict"


def describe(description: dict[str, Any]) -> None:
    """Add the authentication to the OpenAPI description."""
    description.setdefault("components", {})["securitySchemes"] = {"bearer": SCHEME}
    for path, operations in description["paths"].items():
        for operation in operations.values():
            if role_of(path):
                operation["security"] = [{"bearer": []}]


class Authentication:
    """Answers 401 to a request that proves no subject, and 403 to a subject without the role."""

    def __init__(self, app: ASGIApp, authenticator: Authenticator) -> None:
        self.app = app
        self.authenticator = authenticator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        role = role_of(path)
        if role is None:
            scope["state"]["subject"] = UNKNOWN if path in PROBES else await self._of_public(scope)
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        try:
            subject = await self.authenticator.subject(_credentials(Headers(scope=scope)))
        except NotAuthenticated as error:
            refusal = problem(request, 401, str(error), {"WWW-Authenticate": "Bearer"})
        except IssuerAway as error:
            refusal = problem(request, 503, str(error), {"Retry-After": BUSY_SECONDS})
        else:
            scope["state"]["subject"] = subject
            scope["state"]["noted"]["subject"] = subject.name
            if role in subject.roles:
                await self.app(scope, receive, send)
                return
            refusal = problem(request, 403, f"{subject.name} does not have the role {role}")
        await refusal(scope, receive, send)

    async def _of_public(self, scope: Scope) -> Subject:
        """Return the subject of a request that needs none: the OpenAPI description names columns to those it knows."""
        try:
            return await self.authenticator.subject(_credentials(Headers(scope=scope)))
        except (NotAuthenticated, IssuerAway):
            return UNKNOWN


def _credentials(headers: Headers) -> str:
    """Return the bearer's key or token, an empty text if there is none."""
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    return credentials.strip() if scheme.lower() == "bearer" else ""
