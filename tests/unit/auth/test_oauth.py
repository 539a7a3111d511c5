"""How requests to the OAuth endpoints are read, and how refusals read."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import pytest
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata
from hypothesis import given
from hypothesis import strategies as st

from auth.oauth import ClientRequest, RequestRefused, metadata_of, read_request, refusal

FORM = "application/x-www-form-urlencoded"


def basic(text: str | bytes) -> str:
    """Return a Basic header."""
    data = text if isinstance(text, bytes) else text.encode()
    return "Basic " + base64.b64encode(data).decode()


def read(
    body: bytes = b"grant_type=client_credentials",
    *,
    query: str = "",
    content_type: str = FORM,
    authorizations: Sequence[str] = (),
) -> ClientRequest:
    """Read a token request."""
    return read_request(
        query=query, content_type=content_type, authorizations=authorizations, body=body, required="grant_type"
    )


@pytest.mark.parametrize(
    "content_type", [FORM, FORM.upper(), f"{FORM};charset=UTF-8", f'{FORM}; charset="utf-8"', f"{FORM} ; charset=utf-8"]
)
def test_a_form_is_read(content_type: str) -> None:
    """Decoded, empty parameters left out, the header kept as it came."""
    request = read(
        b"grant_type=client_credentials&scope=ledger.read+events%2Eread&state=",
        content_type=content_type,
        authorizations=[basic("id:secret")],
    )
    assert request.form == {"grant_type": "client_credentials", "scope": "ledger.read events.read"}
    assert request.authorization == basic("id:secret")


def test_a_read_request_does_not_show_its_secrets() -> None:
    """A request that lands in a log says nothing."""
    assert "secret" not in repr(read(b"grant_type=x&client_secret=secret"))


@pytest.mark.parametrize(
    "request_",
    [
        {"query": "grant_type=client_credentials"},
        {"content_type": "application/json", "body": b'{"grant_type":"client_credentials"}'},
        {"content_type": ""},
        {"content_type": f"{FORM}; charset=latin-1"},
        {"content_type": f"{FORM}x"},
        {"body": b"grant_type=client_credentials&grant_type=client_credentials"},
        {"body": b"grant_type=client_credentials&scope=a&scope=b"},
        {"body": b"grant_type=client_credentials&scope=&scope="},
        {"body": b"grant_type=%ff"},
        {"body": b"\xff\xfe"},
        {"body": b""},
        {"body": b"grant_type="},
        {"body": b"grant_type=x&" + b"&".join(b"p%d=1" % number for number in range(40))},
        {"body": b"grant_type=x&client_secret=s", "authorizations": [basic("id:secret")]},
        {"body": b"grant_type=x&client_assertion=s", "authorizations": [basic("id:secret")]},
        {"body": b"grant_type=x&client_secret=s&client_assertion=s"},
        {"authorizations": [basic("a:b"), basic("a:b")]},
    ],
)
def test_a_malformed_request_is_refused(request_: dict[str, object]) -> None:
    """Parameters in the query, another media type, a parameter twice, two ways to authenticate: invalid_request."""
    with pytest.raises(RequestRefused) as refused:
        read(**request_)  # type: ignore[arg-type]
    assert refused.value.error == "invalid_request"


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Basic",
        "Basic ",
        "Basic !!!!",
        "Basic YQ",
        "Basic é",
        basic(b"\xff\xfe:x"),
        basic("no colon"),
        "Bearer abc",
        "Digest username=x",
        basic("a:b") + "\n",
        basic("a:b") + " x",
    ],
)
def test_a_header_that_is_no_basic_header_is_no_authentication(header: str) -> None:
    """Bytes that are no text, text that is no base64, another scheme: invalid_client, never a failure of ours."""
    with pytest.raises(RequestRefused) as refused:
        read(authorizations=[header])
    assert refused.value.error == "invalid_client"


def test_a_body_that_names_another_client_is_refused() -> None:
    """The header says who it is; the body may repeat it and nothing else."""
    same = b"grant_type=x&client_id=a"
    assert read(same, authorizations=[basic("a:b")]).form["client_id"] == "a"
    with pytest.raises(RequestRefused) as refused:
        read(same, authorizations=[basic("c:b")])
    assert refused.value.error == "invalid_client"


@given(st.binary(max_size=300), st.text(max_size=60), st.lists(st.text(max_size=80), max_size=2))
def test_junk_is_read_or_refused_and_nothing_else(body: bytes, content_type: str, authorizations: list[str]) -> None:
    """No input makes the reader fail in another way."""
    for media_type in (content_type, FORM):
        outcome = error_of(body, media_type, authorizations)
        assert outcome in {None, "invalid_request", "invalid_client"}


def error_of(body: bytes, content_type: str, authorizations: list[str]) -> str | None:
    """Return how a request is refused, None if it is read."""
    try:
        read(body, content_type=content_type, authorizations=authorizations)
    except RequestRefused as refused:
        return refused.error
    return None


def test_every_failed_authentication_reads_the_same() -> None:
    """One text, a challenge with a realm, and 401."""
    reply = refusal("invalid_client")
    assert reply.status == 401
    assert reply.headers["www-authenticate"].startswith('Basic realm="')
    assert reply.body == {"error": "invalid_client", "error_description": "Client authentication failed."}


def test_an_error_nobody_foresaw_is_a_malformed_request() -> None:
    """The next authlib's error code does not become a failure of ours."""
    assert refusal("something_new").body["error"] == "invalid_request"
    assert refusal("invalid_scope").status == 400


@pytest.mark.parametrize("environment", ["sandbox", "production"])
def test_the_metadata_is_valid(environment: str) -> None:
    """What RFC 8414 requires, as authlib checks it."""
    metadata = metadata_of("https://ledger.example", environment)
    AuthorizationServerMetadata(metadata).validate()
    assert metadata["issuer"] == f"https://ledger.example/{environment}"
    assert metadata["grant_types_supported"] == ["client_credentials"]
