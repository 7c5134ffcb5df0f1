"""What the status of an AgentSystem says. Without I/O."""

from __future__ import annotations

from dataclasses import replace

from hivewire_operator.access import Usable, finding
from hivewire_operator.conditions import Finding
from hivewire_operator.login_sources import login_secret


def findings_of_connection(problem: str) -> list[Finding]:
    """Return what is to be said of NATS, and by that of the whole. `problem` is what is wrong; empty: nothing."""
    accepted = Finding(type="Accepted", status="True", reason="Accepted", message="The spec makes sense.")
    if problem:
        away = Finding(type="Connected", status="False", reason="NatsUnavailable", message=problem)
        return [accepted, away, replace(away, type="Ready")]
    kept = Finding(type="Connected", status="True", reason="Connected", message="Streams and buckets are as planned.")
    return [accepted, kept, Finding(type="Ready", status="True", reason="Ready", message="Agents can be deployed.")]


def findings_of_login(source: Usable | None, trouble: str) -> list[Finding]:
    """Return what is to be said of the logins. `trouble` is why NATS takes no new ones; empty: it does."""
    if not trouble:
        return [finding(source)]
    name = "" if source is None else login_secret(source.name)
    message = (
        f"NATS refuses new logins, while those of before go on until they expire. The keys in {name} are others than"
        f" NATS trusts: put them right, or let NATS read the new ones. {trouble}"
    )
    refused = Finding(type="LoginReady", status="False", reason="LoginRefused", message=message)
    return [refused, replace(refused, type="Ready")]


def findings_of_departed(*, expiring: str, undeleted: str) -> list[Finding]:
    """Return what is left of objects that are gone: logins that are not revoked, and data; empty: nothing."""
    left = Finding(type="LoginsRevoked", status="True", reason="Settled", message="Nobody has a login who is gone.")
    if expiring:
        left = replace(left, status="False", reason="Expiring", message=expiring)
    deleted = Finding(type="DataDeleted", status="True", reason="Settled", message="Nothing is left to be deleted.")
    if undeleted:
        deleted = replace(deleted, status="False", reason="Waiting", message=undeleted)
    return [left, deleted]
