"""Webhooks of others, from their senders to agents."""

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.conftest import DEADLINE_S, NewRuntime
from hivewire import ClosureAgent, ClosureContext, MessageContext, TypeSubscription
from hivewire_gateway.security import secrets
from unit.gateway.hooks.senders import compact, github, standard, stripe

SECRET = "a secret of 32 characters or more"
WHSEC = "whsec_" + base64.b64encode(b"0123456789abcdef01234567").decode()
PUSH = {"ref": "refs/heads/main", "repository": {"id": 7, "full_name": "octo/cat"}, "message": "Grüße 世界"}


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n")
    return file


@pytest.fixture
def hooks(secret_file: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """One hook of each scheme."""
    monkeypatch.setenv("STANDARD_SECRET", WHSEC)
    return {
        "forge": {
            "scheme": "github",
            "secrets": [{"file": str(secret_file)}],
            "topic_type": "github.{header.X-GitHub-Event}",
            "source": "{body.repository.full_name}",
        },
        "payments": {
            "scheme": "stripe",
            "secrets": [{"file": str(secret_file)}],
            "topic_type": "stripe.{body.type}",
            "source": "{body.account}",
            "message_type": "StripeEvent",
        },
        "others": {
            "scheme": "standard",
            "secrets": [{"env": "STANDARD_SECRET"}],
            "topic_type": "others",
            "source": "here",
        },
    }


@pytest.fixture
async def http(new_gateway: Callable[..., Any], hooks: dict[str, Any]) -> AsyncIterator[httpx.AsyncClient]:
    gateway = await new_gateway(hooks=hooks)
    async with httpx.AsyncClient(base_url=gateway.url, timeout=DEADLINE_S) as client:
        yield client


async def seen_by_an_agent(runtime: Any, topic_type: str) -> asyncio.Queue[Any]:
    seen: asyncio.Queue[Any] = asyncio.Queue()

    async def note(context: ClosureContext, message: dict[str, Any], ctx: MessageContext) -> None:
        seen.put_nowait((context.id.key, message))

    await ClosureAgent.register_closure(runtime, "watcher", note)
    await runtime.add_subscription(TypeSubscription(topic_type, "watcher"))
    await runtime.start()
    return seen


async def test_a_delivery_reaches_an_agent_once(http: httpx.AsyncClient, new_runtime: NewRuntime) -> None:
    seen = await seen_by_an_agent(new_runtime(), "github.push")
    body = compact(PUSH)
    headers = github(SECRET, body)
    first = await http.post("/v1/hooks/forge", content=body, headers=headers)
    again = await http.post("/v1/hooks/forge", content=body, headers=headers)
    other = await http.post("/v1/hooks/forge", content=body, headers=github(SECRET, body, delivery="another"))
    assert [answer.status_code for answer in (first, again, other)] == [202, 202, 202]
    assert first.json() == again.json() == {"id": headers["x-github-delivery"], "sequence": first.json()["sequence"]}
    assert (again.headers["x-duplicate"], "x-duplicate" in other.headers) == ("true", False)
    async with asyncio.timeout(DEADLINE_S):
        assert [await seen.get(), await seen.get()] == [("octo/cat", PUSH)] * 2
    assert seen.empty()


async def test_each_scheme_has_an_id_of_its_own(http: httpx.AsyncClient) -> None:
    now = int(time.time())
    event = compact({"id": "evt_1", "type": "invoice.paid", "account": "acct_1"})
    paid = await http.post("/v1/hooks/payments", content=event, headers=stripe(SECRET, body=event, time=now))
    assert (paid.status_code, paid.json()["id"]) == (202, "evt_1")
    later = await http.post("/v1/hooks/payments", content=event, headers=stripe(SECRET, body=event, time=now + 1))
    assert later.headers["x-duplicate"] == "true"
    sent = await http.post("/v1/hooks/others", content=b"[1]", headers=standard(WHSEC, body=b"[1]", time=now))
    assert (sent.status_code, sent.json()["id"]) == (202, "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W")


async def test_the_same_id_at_two_hooks_is_two_events(new_gateway: Callable[..., Any], hooks: dict[str, Any]) -> None:
    gateway = await new_gateway(hooks={"one": hooks["forge"], "two": hooks["forge"]})
    body = compact(PUSH)
    async with httpx.AsyncClient(base_url=gateway.url, timeout=DEADLINE_S) as client:
        first, second = [
            await client.post(f"/v1/hooks/{name}", content=body, headers=github(SECRET, body))
            for name in ("one", "two")
        ]
    assert first.json()["sequence"] < second.json()["sequence"]


async def test_whatever_is_wrong_with_a_signature_is_answered_alike(http: httpx.AsyncClient) -> None:
    now, body = int(time.time()), compact({"id": "evt_1", "type": "a", "account": "b"})
    wrong = [
        {},
        stripe("another secret", body=body, time=now),
        stripe(SECRET, body=body + b" ", time=now),
        stripe(SECRET, body=body, time=now - 400),
        stripe(SECRET, body=body, time=now + 400),
        {"stripe-signature": "nonsense"},
        {"authorization": f"Bearer {SECRET}"},
    ]
    answers = [await http.post("/v1/hooks/payments", content=body, headers=headers) for headers in wrong]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.content for answer in answers}) == 1
    assert "www-authenticate" in answers[0].headers
    not_json = await http.post("/v1/hooks/payments", content=b"{", headers=stripe("other", body=b"{", time=now))
    assert not_json.content == answers[0].content


async def test_what_is_signed_and_makes_no_event_says_why(http: httpx.AsyncClient) -> None:
    def signed(body: bytes, **headers: str) -> dict[str, Any]:
        return {"content": body, "headers": {**github(SECRET, body), **headers}}

    push = compact(PUSH)
    for request, status, says in [
        (signed(b"{}"), 400, "{body.repository.full_name} has to be a text or an integer"),
        (signed(compact({"repository": {"full_name": ""}})), 400, "has no source"),
        (signed(compact({"repository": {"full_name": "a\0b"}})), 400, "The source of this delivery"),
        (signed(push, **{"x-github-event": "two words"}), 400, "The topic type of this delivery"),
        (signed(push, **{"x-github-delivery": ""}), 400, "has no id"),
        (signed(b"{"), 400, "not JSON"),
        (signed(b"\xff"), 400, "UTF-8"),
        (signed(b""), 400, "JSON"),
        (signed(push, **{"content-type": "application/x-www-form-urlencoded"}), 415, "application/json"),
        (signed(push, **{"content-type": "?"}), 415, "application/json"),
    ]:
        answer = await http.post("/v1/hooks/forge", **request)
        assert (answer.status_code, says in answer.json()["detail"]) == (status, True), answer.text
        assert answer.headers["content-type"] == "application/problem+json"


async def test_there_are_no_other_hooks_and_methods(http: httpx.AsyncClient) -> None:
    assert (await http.post("/v1/hooks/nowhere", content=b"{}")).status_code == 404
    assert (await http.post("/v1/hooks/", content=b"{}")).status_code == 404
    assert (await http.get("/v1/hooks/forge")).status_code == 405
    large = b" " * 1_000_001
    assert (await http.post("/v1/hooks/forge", content=large, headers=github(SECRET, large))).status_code == 413


async def test_no_token_is_needed_where_all_else_needs_one(
    new_gateway: Callable[..., Any], hooks: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_TOKENS", "")
    gateway = await new_gateway(hooks=hooks, security={"anonymous": False, "tokens": {"env": "NO_TOKENS"}})
    body = compact(PUSH)
    async with httpx.AsyncClient(base_url=gateway.url, timeout=DEADLINE_S) as client:
        headers = {**github(SECRET, body), "host": "gateway.example", "origin": "https://forge.example"}
        assert (await client.post("/v1/hooks/forge", content=body, headers=headers)).status_code == 202
        assert (await client.post("/v1/events", content=body)).status_code == 401


async def test_secrets_are_changed_without_a_gap_or_a_restart(
    http: httpx.AsyncClient, secret_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secrets, "CHECK_EVERY_S", 0.0)

    async def statuses() -> list[int]:
        body = compact(PUSH)
        answers = [
            await http.post("/v1/hooks/forge", content=body, headers=github(secret, body))
            for secret in (SECRET, "the next secret")
        ]
        return [answer.status_code for answer in answers]

    assert await statuses() == [202, 401]
    replace(secret_file, f"{SECRET}\nthe next secret\n")
    assert await statuses() == [202, 202]
    replace(secret_file, "the next secret\n")
    assert await statuses() == [401, 202]
    replace(secret_file, "")
    assert await statuses() == [401, 202]


def replace(file: Path, text: str) -> None:
    """Put another file in its place, as Kubernetes does."""
    fresh = file.with_suffix(".fresh")
    fresh.write_text(text)
    fresh.rename(file)
