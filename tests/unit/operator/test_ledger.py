"""What is left to do when objects are gone."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hivewire_operator.ledger import Entry, Issued, Ledger

EMPTY = Ledger(entries={})


def issued(user: str, *, expires_at: int = 100, **changes: Any) -> Issued:
    return Issued(**{"user": user, "login": "main", "account": "A1", "expires_at": expires_at, **changes})


def entry(uid: str, **changes: Any) -> Entry:
    return Entry(**{"kind": "AgentDeployment", "name": f"d{uid}", "uid": uid, "url": "nats://n", **changes})


def with_logins(uid: str, *logins: Issued) -> Ledger:
    ledger = EMPTY.with_object(entry(uid))
    for each in logins:
        ledger = ledger.with_issued(uid, each)
    return ledger


def test_what_was_made_for_an_object_stays_when_the_object_changes() -> None:
    ledger = with_logins("1", issued("U1"), issued("U2")).with_object(entry("1", deletes=True, url="nats://other"))
    assert ledger.users_of("1") == {"U1", "U2"}
    assert ledger.entries["1"].deletes
    assert ledger.users_of("2") == frozenset()


def test_a_login_that_nobody_got_is_taken_back() -> None:
    ledger = with_logins("1", issued("U1"), issued("U2")).without_issued("1", "U1")
    assert ledger.users_of("1") == {"U2"}
    assert ledger.without_issued("unknown", "U2") == ledger


def test_what_is_gone_is_told_and_what_is_there_is_not() -> None:
    ledger = EMPTY.with_object(entry("1")).with_object(entry("2"))
    assert [each.uid for each in ledger.departed({"2", "3"})] == ["1"]
    assert ledger.without("1").departed({"2"}) == []


def test_a_deployment_that_was_made_again_under_its_name_is_another_one() -> None:
    ledger = EMPTY.with_object(entry("1", name="cart")).with_object(entry("2", name="cart"))
    assert [each.uid for each in ledger.departed({"2"})] == ["1"]


def test_data_go_only_with_the_last_one_that_serves_a_type() -> None:
    gone = entry("1", deletes=True, agent_types=("cart", "till"))
    ledger = EMPTY.with_object(gone).with_object(entry("2", agent_types=("till",)))
    assert ledger.orphaned_types(gone, {"2"}) == ["cart"]
    assert ledger.orphaned_types(gone, set()) == ["cart", "till"]
    assert ledger.orphaned_types(entry("1", agent_types=("cart",)), set()) == []


def test_logins_that_have_expired_are_forgotten_and_their_object_is_not() -> None:
    ledger = with_logins("1", issued("U1", expires_at=50), issued("U2", expires_at=51)).without_expired(now=50)
    assert ledger.users_of("1") == {"U2"}
    assert ledger.without_expired(now=60).departed(set()) == [entry("1")]


def test_revoked_logins_are_remembered_until_their_account_may_forget_them() -> None:
    ledger = with_logins("1", issued("U1"), issued("U2", account="A2")).with_revoked("1", ["U1", "U2"])
    assert ledger.users_of("1") == frozenset()
    assert ledger.forgettable("A1", now=99) == []
    assert ledger.forgettable("A1", now=100) == ["U1"]
    assert ledger.with_forgotten(["U1"]).forgettable("A1", now=100) == []
    assert ledger.with_forgotten(["U1"]).forgettable("A2", now=100) == ["U2"]
    assert ledger.with_revoked("1", ["U1"]) == ledger
    assert ledger.with_revoked("unknown", ["U1"]) == ledger


TEXTS = st.text(max_size=5)
ISSUED = st.builds(Issued, user=TEXTS, login=TEXTS, account=TEXTS, expires_at=st.integers())
ENTRIES = st.builds(
    Entry,
    kind=st.sampled_from(["AgentDeployment", "AgentSystem"]),
    name=TEXTS,
    uid=TEXTS,
    url=TEXTS,
    issued=st.lists(ISSUED, max_size=3).map(tuple),
    deletes=st.booleans(),
    agent_types=st.lists(TEXTS, max_size=3).map(tuple),
)


@given(st.lists(ENTRIES, max_size=4), st.lists(ISSUED, max_size=3))
def test_it_is_read_as_it_was_written(entries: list[Entry], revoked: list[Issued]) -> None:
    ledger = Ledger(entries={each.uid: each for each in entries}, revoked=tuple(revoked))
    assert Ledger.parse(ledger.text()) == ledger


def test_the_empty_text_is_the_empty_ledger() -> None:
    assert Ledger.parse("") == EMPTY


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "[]",
        "{}",
        '{"format": 2, "entries": [], "revoked": []}',
        '{"format": 1, "entries": [{"uid": "1"}], "revoked": []}',
        '{"format": 1, "entries": [], "revoked": [{"user": "U", "more": 1}]}',
    ],
)
def test_what_is_no_ledger_or_a_later_one_is_not_taken_for_an_empty_one(text: str) -> None:
    with pytest.raises(ValueError, match="not a ledger of this version"):
        Ledger.parse(text)


def test_it_stays_small() -> None:
    ledger = with_logins("1", *(issued("U" * 56, account="A" * 56) for _ in range(4)))
    # A ConfigMap holds a megabyte: a thousand deployments with logins that overlap as long as they live.
    assert len(ledger.text()) < 1_000
    assert json.loads(ledger.text())["format"] == 1
