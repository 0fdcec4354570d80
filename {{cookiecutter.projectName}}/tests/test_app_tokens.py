"""Tokens of an OpenID Connect provider, which the test runs: what is accepted, and what is refused."""

import base64
import dataclasses
import hashlib
import hmac
import http.server
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from app import tokens
from app.settings import Oidc
from app.subjects import IssuerAway, NotAuthenticated, Subject
from app.tokens import Tokens

AUDIENCE = "the-api"
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())


@dataclasses.dataclass
class Provider:
    """A provider: its keys by id, the number of requests for them, and whether it answers."""

    issuer: str
    keys: dict[str, Any]
    requests: int = 0
    is_away: bool = False
    described_issuer: str = ""

    def document(self, path: str) -> dict[str, Any]:
        if path.endswith("openid-configuration"):
            return {"issuer": self.described_issuer or self.issuer, "jwks_uri": f"{self.issuer}/keys"}
        self.requests += 1
        return {"keys": [jwk(kid, key) for kid, key in self.keys.items()]}


def jwk(kid: str, key: Any) -> dict[str, Any]:
    algorithm = jwt.algorithms.ECAlgorithm if key is EC else jwt.algorithms.RSAAlgorithm
    return {**algorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "use": "sig"}


@pytest.fixture(name="provider")
def _provider() -> Iterator[Provider]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(500 if provider.is_away else 200)
            self.end_headers()
            self.wfile.write(json.dumps(provider.document(self.path)).encode())

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        provider = Provider(f"http://127.0.0.1:{server.server_port}", {"rsa": RSA, "ec": EC})
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield provider
        server.shutdown()


@pytest.fixture(name="checked")
def _checked(provider) -> Tokens:
    return Tokens(Oidc(provider.issuer, AUDIENCE, "roles"))


def claims(provider: Provider, **changed: Any) -> dict[str, Any]:
    usual = {"iss": provider.issuer, "aud": AUDIENCE, "sub": "alice", "exp": time.time() + 60, "roles": ["predict"]}
    return {name: value for name, value in {**usual, **changed}.items() if value is not None}


def signed(provider: Provider, key: Any = RSA, algorithm: str = "RS256", kid: str | None = "rsa", **changed) -> str:
    headers = {"kid": kid} if kid else {}
    return jwt.encode(claims(provider, **changed), key, algorithm, headers)


def by_hand(header: dict[str, Any], content: dict[str, Any], secret: bytes) -> str:
    """Return a token with an HMAC of any secret, or without a signature; PyJWT refuses to make it."""
    head, body = (base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, content))
    digest = hmac.new(secret, head + b"." + body, hashlib.sha256).digest() if secret else b""
    return b".".join((head, body, base64.urlsafe_b64encode(digest).rstrip(b"="))).decode()


def test_a_token_proves_its_subject_and_roles(provider, checked) -> None:
    assert checked.subject(signed(provider)) == Subject("alice", frozenset({"predict"}))
    by_curve = signed(provider, EC, "ES256", "ec", roles=["label", "admin", 7], aud=["another", AUDIENCE])
    assert checked.subject(by_curve) == Subject("alice", frozenset({"label"}))
    assert checked.subject(signed(provider, roles="operate predict")).roles == {"operate", "predict"}
    for roles in (None, "predicts", {"predict": True}, 7):
        assert checked.subject(signed(provider, roles=roles)).roles == frozenset()
    # One request for all of them.
    assert provider.requests == 1


def test_the_claim_with_the_roles_has_any_name(provider) -> None:
    checked = Tokens(Oidc(provider.issuer, AUDIENCE, "https://example.com/roles"))
    token = signed(provider, **{"https://example.com/roles": ["label"]})
    assert checked.subject(token).roles == {"label"}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"iss": "https://evil.example"}, "not valid"),
        ({"iss": None}, "not valid"),
        ({"aud": "another-api"}, "not valid"),
        ({"aud": None}, "not valid"),
        ({"exp": time.time() - 60}, "has expired"),
        ({"exp": None}, "not valid"),
        ({"nbf": time.time() + 600}, "not valid"),
        ({"sub": None}, "not valid"),
        ({"sub": ""}, "names no subject"),
        ({"sub": "a\0b"}, "names no subject"),
        ({"sub": "x" * 256}, "names no subject"),
        ({"key": OTHER_RSA}, "not valid"),
        ({"kid": None}, "not signed by a key"),
        ({"kid": "unknown"}, "not valid"),
        # The public key of another kind than the token's algorithm.
        ({"kid": "ec"}, "not valid"),
    ],
)
def test_a_wrong_token_is_refused(provider, checked, changed, message) -> None:
    with pytest.raises(NotAuthenticated, match=message):
        checked.subject(signed(provider, **changed))


def test_a_token_that_anybody_can_make_is_refused(provider, checked) -> None:
    """Without a signature, and with the public key as the secret of an HMAC."""
    public = RSA.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    for algorithm, secret in (("none", b""), ("None", b""), ("HS256", public), ("HS256", b"x" * 64)):
        token = by_hand({"alg": algorithm, "kid": "rsa"}, claims(provider), secret)
        with pytest.raises(NotAuthenticated, match="not signed by a key and an algorithm"):
            checked.subject(token)
    for token in ("", "a.b.c", "é", "x" * 20_000, signed(provider)[:-3]):
        with pytest.raises(NotAuthenticated):
            checked.subject(token)


def test_tokens_cannot_make_it_ask_the_issuer_again_and_again(provider, checked) -> None:
    checked.subject(signed(provider))
    for number in range(20):
        with pytest.raises(NotAuthenticated):
            checked.subject(signed(provider, kid=f"unknown {number}"))
    assert provider.requests == 1


def test_the_issuers_new_key_is_found(provider, checked, monkeypatch) -> None:
    monkeypatch.setattr(tokens, "COOLDOWN", 0)
    assert checked.subject(signed(provider))
    provider.keys = {"next": OTHER_RSA}
    assert checked.subject(signed(provider, OTHER_RSA, kid="next"))
    with pytest.raises(NotAuthenticated):
        checked.subject(signed(provider))


def test_an_issuer_that_does_not_answer_is_no_wrong_token(provider, checked, monkeypatch) -> None:
    monkeypatch.setattr(tokens, "COOLDOWN", 0)
    provider.is_away = True
    with pytest.raises(IssuerAway, match="does not answer"):
        checked.subject(signed(provider))
    provider.is_away = False
    assert checked.subject(signed(provider))


def test_requests_do_not_wait_for_an_issuer_that_is_away(provider, checked) -> None:
    provider.is_away = True
    with pytest.raises(IssuerAway):
        checked.subject(signed(provider))
    provider.is_away = False
    with pytest.raises(IssuerAway):
        checked.subject(signed(provider))
    assert provider.requests == 0


def test_the_description_of_another_issuer_is_not_taken(provider, checked) -> None:
    provider.described_issuer = "https://evil.example"
    with pytest.raises(IssuerAway):
        checked.subject(signed(provider))
