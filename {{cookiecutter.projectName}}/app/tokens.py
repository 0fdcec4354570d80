"""Tokens of an OpenID Connect provider: JSON Web Tokens whose signature, issuer, audience and expiry are checked."""

import json
import threading
import time
import urllib.request
from collections.abc import Mapping
from typing import Any

import jwt

from app.settings import Oidc
from app.subjects import ROLES, IssuerAway, NotAuthenticated, Subject

# Signatures by the issuer's private key alone: with HS256, whoever knows the public key could sign.
ALGORITHMS = ("RS256", "RS384", "RS512", "ES256", "ES384", "ES512")
REQUIRED = ("iss", "aud", "exp", "sub")
DISCOVERY = "/.well-known/openid-configuration"
MAX_TOKEN = 16 * 2**10
MAX_DOCUMENT = 2**20
# Seconds that a request to the issuer may take.
TIMEOUT = 3
# Seconds for which the issuer's keys are kept.
LIFESPAN = 300
# Seconds between requests for an unknown key, and after a request that failed.
COOLDOWN = 10
# Seconds by which the clocks may differ.
LEEWAY = 10
MAX_NAME = 255
AWAY = "the issuer of the tokens does not answer"


class _NotDiscovered(Exception):
    """The issuer's description cannot be used."""


class _Direct(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: the document's address is the issuer's."""

    def redirect_request(self, *_: object) -> None:
        """Return no further request."""


class Tokens:
    """Checks tokens; thread-safe. The first token makes it read the issuer's description and keys."""

    def __init__(self, oidc: Oidc) -> None:
        self._oidc = oidc
        self._lock = threading.Lock()
        self._client: jwt.PyJWKClient | None = None
        self._away_until = 0.0

    def subject(self, token: str) -> Subject:
        """Return the subject that a token proves. Raises NotAuthenticated, IssuerAway."""
        if len(token) > MAX_TOKEN:
            raise NotAuthenticated("the token is too long")
        try:
            # Before anything is fetched: a token in another form never causes a request to the issuer.
            header = jwt.get_unverified_header(token)
            if header.get("alg") not in ALGORITHMS or not isinstance(header.get("kid"), str):
                raise NotAuthenticated("the token is not signed by a key and an algorithm that are allowed")
            if time.monotonic() < self._away_until:
                raise IssuerAway(AWAY)
            claims = self._claims(token, header["kid"])
        except (_NotDiscovered, jwt.PyJWKClientConnectionError) as error:
            # Requests must not wait for the issuer one after the other.
            self._away_until = time.monotonic() + COOLDOWN
            raise IssuerAway(AWAY) from error
        except jwt.ExpiredSignatureError as error:
            raise NotAuthenticated("the token has expired") from error
        except jwt.PyJWTError as error:
            raise NotAuthenticated("the token is not valid") from error
        return subject_of(claims, self._oidc.roles_claim)

    def _claims(self, token: str, kid: str) -> dict[str, Any]:
        return jwt.decode(
            token,
            self._keys().get_signing_key(kid),
            algorithms=ALGORITHMS,
            issuer=self._oidc.issuer,
            audience=self._oidc.audience,
            leeway=LEEWAY,
            options={"require": list(REQUIRED)},
        )

    def _keys(self) -> jwt.PyJWKClient:
        """Return the client that keeps the issuer's keys. Raises _NotDiscovered."""
        with self._lock:
            if self._client is None:
                address = _keys_address(self._oidc.issuer)
                self._client = jwt.PyJWKClient(address, timeout=TIMEOUT, lifespan=LIFESPAN, cooldown_duration=COOLDOWN)
            return self._client


def subject_of(claims: Mapping[str, Any], roles_claim: str) -> Subject:
    """Return the subject of verified claims; roles that this project does not have are left out.

    The roles are a list, or a text in which blanks separate them. Raises NotAuthenticated.
    """
    name, roles = claims.get("sub"), claims.get(roles_claim)
    if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= MAX_NAME:
        raise NotAuthenticated("the token names no subject of up to 255 printable characters")
    named = roles.split() if isinstance(roles, str) else roles if isinstance(roles, list) else []
    return Subject(name, frozenset(role for role in ROLES if role in named))


def _keys_address(issuer: str) -> str:
    """Return the address of the issuer's keys, from its description. Raises _NotDiscovered."""
    opener = urllib.request.build_opener(_Direct)
    try:
        with opener.open(f"{issuer.rstrip('/')}{DISCOVERY}", timeout=TIMEOUT) as answer:
            document = json.loads(answer.read(MAX_DOCUMENT))
        address = document["jwks_uri"]
        # Only an issuer on this machine is asked without TLS.
        scheme = "https://" if issuer.startswith("https://") else "http"
        if document["issuer"] != issuer or not address.startswith(scheme):
            raise ValueError("the description names another issuer, or no address of keys")
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise _NotDiscovered("the issuer does not describe itself as OpenID Connect requires") from error
    return str(address)
