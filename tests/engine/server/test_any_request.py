"""Random requests."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .client import HEAD, Client, answers, assert_refused, raw

FUZZ = settings(
    max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


@FUZZ
@given(body=st.binary(max_size=300), kind=st.sampled_from(["application/json", "multipart/form-data; boundary=x", "x"]))
def test_any_body(client: Client, body: bytes, kind: str) -> None:
    reply = client.send("POST", "/api/accelerators/zip", body, Content_Type=kind)
    assert reply.detail
    assert 400 <= reply.status < 500


@FUZZ
@given(
    data=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=8,
    ),
    key=st.sampled_from(
        ["projectName", "greeting", "whom", "loud", "size", "names", "holder", "artifactId", "x", "files"]
    ),
)
def test_any_option(client: Client, data: Any, key: str) -> None:
    reply = client.generate("greeting", answers() | {key: data})
    assert reply.status == 200 or (reply.status == 400 and reply.detail)


@FUZZ
@given(
    name=st.sampled_from(
        ["Host", "Content-Type", "Content-Length", "Transfer-Encoding", "Expect", "Origin", "Accept", "X"]
    ),
    value=st.binary(max_size=40) | st.sampled_from([b"-1", b"9" * 5000, b"1e9", b"chunked, gzip", b"\xc3\xa9"]),
)
def test_any_header(client: Client, name: str, value: bytes) -> None:
    answer = raw(client.port, HEAD + name.encode() + b": " + value + b"\r\n\r\n{")
    if answer.startswith(b"HTTP/1.1 100"):
        answer = answer.partition(b"\r\n\r\n")[2]
    # The server does not answer while it waits for the rest of a body.
    if answer:
        assert_refused(answer)


@pytest.mark.parametrize(
    "request_",
    [
        HEAD + b"Content-Length: " + b"9" * 5000, HEAD + b"Content-Length: -1", HEAD + b"Content-Length: 1e9",
        HEAD + b"Content-Length: 5\r\nContent-Length: 6", HEAD + b"Content-Length: " + b"9" * 4000,
        HEAD + b"Transfer-Encoding: gzip", HEAD + b"no header",
        b"GET http://[ HTTP/1.1", b"GET /\xff HTTP/1.1", b"GET /a b HTTP/1.1", b"GET", b"\x16\x03\x01",
    ],
)  # fmt: skip
def test_invalid_http(client: Client, request_: bytes) -> None:
    assert_refused(raw(client.port, request_ + b"\r\n\r\n"))


@FUZZ
@given(line=st.binary(max_size=60))
def test_any_first_line(client: Client, line: bytes) -> None:
    answer = raw(client.port, b"GET " + line + b" HTTP/1.1\r\nConnection: close\r\n\r\n")
    if answer:
        assert_refused(answer)
