"""JSON Web Tokens, with the keys behind a real address."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from gateway.conftest import DEADLINE_S
from hivewire_gateway import ConfigurationError, GatewayServer
from hivewire_gateway.security.key_sets import FetchedKeys, KeySet

ISSUER, AUDIENCE = "https://idp.example/", "hivewire"
ALGORITHMS = {"RSA": jwt.algorithms.RSAAlgorithm, "EC": jwt.algorithms.ECAlgorithm, "OKP": jwt.algorithms.OKPAlgorithm}


class Key:
    """A key pair of the issuer."""

    def __init__(self, key_id: str, private: Any, algorithm: str) -> None:
        self.id, self.private, self.algorithm = key_id, private, algorithm

    @property
    def published(self) -> dict[str, Any]:
        public = self.private.public_key()
        kind = (
            "RSA"
            if self.algorithm[0] in "RP"
            else "EC"
            if self.algorithm[0] == "E" and "D" not in self.algorithm
            else "OKP"
        )
        return {**ALGORITHMS[kind].to_jwk(public, as_dict=True), "kid": self.id, "use": "sig"}

    def token(self, *, algorithm: str = "", header: dict[str, Any] | None = None, **claims: Any) -> str:
        usual = {"iss": ISSUER, "aud": AUDIENCE, "sub": "shop", "exp": time.time() + 60}
        merged = {name: value for name, value in {**usual, **claims}.items() if value is not None}
        headers = {name: value for name, value in {"kid": self.id, **(header or {})}.items() if value is not None}
        return jwt.encode(merged, self.private, algorithm=algorithm or self.algorithm, headers=headers)


RSA_KEY = Key("rsa", rsa.generate_private_key(65537, 2048), "RS256")
EC_KEY = Key("ec", ec.generate_private_key(ec.SECP256R1()), "ES256")
ED_KEY = Key("ed", ed25519.Ed25519PrivateKey.generate(), "EdDSA")


class Issuer:
    """Serves a key set, and counts who asks for it."""

    def __init__(self) -> None:
        self.keys = [RSA_KEY, EC_KEY, ED_KEY]
        self.requests = 0
        self.status = 200
        self.raw: bytes | None = None
        self.gate = threading.Event()
        self.gate.set()
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.requests += 1
                issuer.gate.wait(DEADLINE_S)
                body = json.dumps({"keys": [key.published for key in issuer.keys]}).encode()
                body = body if issuer.raw is None else issuer.raw
                self.send_response(issuer.status)
                if issuer.status == 302:
                    self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                try:
                    self.wfile.write(body)
                except ConnectionError:
                    pass

            def log_message(self, *arguments: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/jwks.json"


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    made = Issuer()
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.gate.set()
    made.server.shutdown()
    made.server.server_close()
    thread.join(DEADLINE_S)


def security(issuer: Issuer, **options: Any) -> dict[str, Any]:
    jwt_settings = {"issuer": ISSUER, "audience": AUDIENCE, "jwks_url": issuer.url, **options}
    return {"jwt": jwt_settings, "principals": {"shop": {"publish": ["*"]}}}


@pytest.fixture
async def guarded(new_gateway: Callable[..., Any], issuer: Issuer) -> GatewayServer:
    server: GatewayServer = await new_gateway(security=security(issuer))
    return server


@asynccontextmanager
async def client(server: GatewayServer) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server.url, timeout=DEADLINE_S) as made:
        yield made


async def answer(server: GatewayServer, token: str) -> httpx.Response:
    """Return the answer of a path that is not there: 404 says that the token was accepted."""
    async with client(server) as http:
        return await http.get("/nowhere", headers={"Authorization": f"Bearer {token}"})


@pytest.mark.parametrize("key", [RSA_KEY, EC_KEY, ED_KEY], ids=lambda key: key.algorithm)
async def test_what_the_issuer_signed_is_accepted(guarded: GatewayServer, key: Key) -> None:
    assert (await answer(guarded, key.token())).status_code == 404
    assert (await answer(guarded, key.token(aud=["other", AUDIENCE], nbf=time.time() + 5))).status_code == 404


@pytest.mark.parametrize(
    ("claims", "says"),
    [
        ({"exp": 1}, "it has expired"),
        ({"exp": None}, "it has no exp"),
        ({"exp": "soon"}, "its signature or its claims are not right"),
        ({"exp": 1e400}, "its signature or its claims are not right"),
        ({"nbf": 2e10}, "it is not valid yet"),
        ({"iat": 2e10}, "it is not valid yet"),
        ({"iss": "https://idp.example"}, "it is of another issuer"),
        ({"iss": None}, "it has no iss"),
        ({"aud": "other"}, "it is for another audience"),
        ({"aud": None}, "it has no aud"),
        ({"sub": None}, "its claim sub must be a text"),
        ({"sub": "a\nb"}, "its claim sub must have printable characters only"),
        ({"sub": "x" * 300}, "its claim sub must be a text"),
    ],
)
async def test_claims_that_are_not_right_are_refused(guarded: GatewayServer, claims: dict[str, Any], says: str) -> None:
    refused = await answer(guarded, RSA_KEY.token(**claims))
    assert refused.status_code == 401
    assert says in refused.json()["detail"]
    assert 'error="invalid_token"' in refused.headers["www-authenticate"]


async def test_forged_tokens_are_refused(guarded: GatewayServer) -> None:
    public = RSA_KEY.private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "shop", "exp": time.time() + 60}
    segments = RSA_KEY.token().split(".")
    other = Key("rsa", rsa.generate_private_key(65537, 2048), "RS256")
    header, payload = jwt.utils.base64url_encode, json.dumps(claims).encode()
    by_mac = header(b'{"alg":"HS256","kid":"rsa"}') + b"." + header(payload)
    mac = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    signature = mac.sign(by_mac, public)
    forged = [
        jwt.encode(claims, None, algorithm="none", headers={"kid": "rsa"}),
        (by_mac + b"." + header(signature)).decode(),
        other.token(),
        ".".join([segments[0], segments[1], ""]),
        ".".join([segments[0], segments[1], segments[2][:-4] + "AAAA"]),
        ".".join([segments[0], EC_KEY.token().split(".")[1], segments[2]]),
        EC_KEY.token(header={"kid": "rsa"}),
        RSA_KEY.token(header={"kid": "ec"}),
        RSA_KEY.token(algorithm="RS512"),
        RSA_KEY.token(header={"kid": None}),
        RSA_KEY.token(header={"crit": ["exp"], "exp": 1}),
        "a.b.c",
        "..",
        "e30.e30.",
        header(b"[" * 3000).decode() + ".e30.AA",
    ]
    for token in forged:
        assert (await answer(guarded, token)).status_code == 401, token


async def test_a_key_that_says_what_it_is_for_is_for_nothing_else(
    new_gateway: Callable[..., Any], tmp_path: Path
) -> None:
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"keys": [{**RSA_KEY.published, "alg": "RS512"}, {**EC_KEY.published, "use": "enc"}]}))
    settings = {
        "jwt": {"issuer": ISSUER, "audience": AUDIENCE, "jwks_file": file, "algorithms": ["RS256", "RS512", "ES256"]}
    }
    server = await new_gateway(security=settings)
    assert (await answer(server, RSA_KEY.token(algorithm="RS512"))).status_code == 404
    assert (await answer(server, RSA_KEY.token())).status_code == 401
    assert (await answer(server, EC_KEY.token())).status_code == 401
    # The only key is found without its id.
    assert (await answer(server, RSA_KEY.token(algorithm="RS512", header={"kid": None}))).status_code == 404


async def test_permissions_are_those_of_the_named_claim(new_gateway: Callable[..., Any], issuer: Issuer) -> None:
    server = await new_gateway(security=security(issuer, principal_claim="client_id"))
    async with client(server) as http:
        event = {"ce-specversion": "1.0", "ce-id": "1", "ce-type": "orders", "ce-source": "s"}
        for client_id, status in [("shop", 202), ("other", 403)]:
            token = RSA_KEY.token(sub="shop", client_id=client_id)
            headers = {**event, "Authorization": f"Bearer {token}"}
            assert (await http.post("/v1/events", json={}, headers=headers)).status_code == status


async def test_keys_are_fetched_once_for_all_who_wait(guarded: GatewayServer, issuer: Issuer) -> None:
    issuer.gate.clear()
    async with client(guarded) as http:
        headers = {"Authorization": f"Bearer {RSA_KEY.token()}"}
        waiting = [asyncio.create_task(http.get("/nowhere", headers=headers)) for _ in range(20)]
        async with asyncio.timeout(DEADLINE_S):
            while not issuer.requests:
                await asyncio.sleep(0.01)
            # The fetch is in a thread: others are served meanwhile.
            assert (await http.get("/nowhere")).status_code == 401
        issuer.gate.set()
        assert {answer.status_code for answer in await asyncio.gather(*waiting)} == {404}
    assert issuer.requests == 1


async def test_tokens_can_not_be_checked_until_there_are_keys(
    new_gateway: Callable[..., Any], issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    issuer.status = 500
    server = await new_gateway(security=security(issuer))
    refused = await answer(server, RSA_KEY.token())
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "10")
    assert "HTTP Error 500" in caplog.text
    assert (await answer(server, RSA_KEY.token())).status_code == 503
    assert issuer.requests == 1


@pytest.mark.parametrize(
    ("status", "raw"), [(302, b""), (200, b"no JSON"), (200, b"{}"), (200, b'{"keys": []}'), (200, b" " * 1_000_001)]
)
async def test_what_is_no_key_set_is_none(
    new_gateway: Callable[..., Any], issuer: Issuer, status: int, raw: bytes
) -> None:
    issuer.status, issuer.raw = status, raw
    server = await new_gateway(security=security(issuer))
    assert (await answer(server, RSA_KEY.token())).status_code == 503
    assert issuer.requests == 1


async def test_an_issuer_that_does_not_answer_is_given_up(new_gateway: Callable[..., Any], issuer: Issuer) -> None:
    issuer.gate.clear()
    server = await new_gateway(security=security(issuer, fetch_timeout_s=0.2))
    assert (await answer(server, RSA_KEY.token())).status_code == 503


async def test_a_new_key_is_found_and_an_old_one_forgotten(issuer: Issuer) -> None:
    now = 0.0
    keys = FetchedKeys(issuer.url, refresh_s=300, timeout_s=DEADLINE_S, clock=lambda: now)
    new = Key("new", RSA_KEY.private, "RS256")
    assert await keys.find("rsa") is not None
    assert await keys.find("new") is None  # asked for again a moment later: not fetched
    assert issuer.requests == 1
    issuer.keys = [new]
    now = 11.0
    assert await keys.find("new") is not None
    assert await keys.find("rsa") is None
    assert issuer.requests == 2
    for number in range(50):
        assert await keys.find(f"made up {number}") is None
    assert issuer.requests == 2


async def test_old_keys_are_used_while_new_ones_can_not_be_fetched(issuer: Issuer) -> None:
    now = 0.0
    keys = FetchedKeys(issuer.url, refresh_s=300, timeout_s=DEADLINE_S, clock=lambda: now)
    assert await keys.find("rsa") is not None
    issuer.status = 503
    for later in (301.0, 302.0, 320.0):
        now = later
        assert await keys.find("rsa") is not None
    assert issuer.requests == 3
    issuer.status, issuer.keys, now = 200, [EC_KEY], 340.0
    assert await keys.find("rsa") is None
    assert issuer.requests == 4


async def test_a_file_of_keys_may_change(new_gateway: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"keys": [RSA_KEY.published]}))
    server = await new_gateway(security={"jwt": {"issuer": ISSUER, "audience": AUDIENCE, "jwks_file": file}})
    assert (await answer(server, EC_KEY.token())).status_code == 401
    file.write_text(json.dumps({"keys": [EC_KEY.published]}))
    async with asyncio.timeout(DEADLINE_S):
        while (await answer(server, EC_KEY.token())).status_code != 404:
            await asyncio.sleep(0.05)
    assert (await answer(server, RSA_KEY.token())).status_code == 401


async def test_a_file_that_holds_no_keys_is_named_at_the_start(new_gateway: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    settings = {"jwt": {"issuer": ISSUER, "audience": AUDIENCE, "jwks_file": file}}
    with pytest.raises(ConfigurationError, match="No such file"):
        await new_gateway(security=settings)
    file.write_text('{"keys": [{"kty": "oct", "k": "c2VzYW1l"}]}')
    with pytest.raises(ConfigurationError, match="no key in it checks signatures"):
        await new_gateway(security=settings)


def test_symmetric_keys_are_never_keys() -> None:
    secret = {"kty": "oct", "k": "c2VzYW1l", "kid": "mac"}
    assert KeySet.parse(json.dumps({"keys": [secret, RSA_KEY.published]})).find("mac") is None
