"""Signatures of webhooks: HMAC-SHA256 over the bytes that came, in the ways of several senders.

A scheme reads what a request claims, and `is_signed` decides whether that is true: without I/O and without a clock. How
long the decision takes says nothing about the secrets.
"""

from __future__ import annotations

import binascii
import hmac
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from starlette.datastructures import Headers

from hivewire_gateway.hooks.templates import Template

SchemeName = Literal["github", "stripe", "standard"]

_MOST_SIGNATURES = 20
_SECONDS = re.compile(r"[0-9]{1,11}").fullmatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a request says about itself.

    Attributes:
        signed_before: Bytes that are signed before the body.
        signatures: As they were sent. One that is true is enough, so that a sender can change its secret.
        timestamp: When it was signed, in seconds since 1970; None if the scheme has no such thing.
    """

    signatures: tuple[bytes, ...]
    signed_before: bytes = b""
    timestamp: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """How a kind of sender signs.

    Attributes:
        claim: Reads the headers; None if they make no sense.
        key: Makes a key of a secret as it is written. Raises a `ValueError` without the secret in it.
        encode: How a digest is written.
        delivery_id: What a delivery and its repetitions have in common.
    """

    claim: Callable[[Headers], Claim | None]
    key: Callable[[str], bytes]
    encode: Callable[[bytes], bytes]
    delivery_id: Template

    def is_signed(self, headers: Headers, body: bytes, keys: Iterable[bytes], *, now: float, window_s: float) -> bool:
        """Tell whether one of the keys signed this, and not longer ago (or ahead) than the window."""
        claim = self.claim(headers)
        if claim is None or not 0 < len(claim.signatures) <= _MOST_SIGNATURES:
            return False
        matches = False
        for key in keys:
            digest = hmac.new(key, claim.signed_before, "sha256")
            digest.update(body)
            expected = self.encode(digest.digest())
            for signature in claim.signatures:
                matches |= hmac.compare_digest(expected, signature)
        return matches and (claim.timestamp is None or abs(now - claim.timestamp) <= window_s)


def _github_claim(headers: Headers) -> Claim | None:
    text = _only(headers, "x-hub-signature-256")
    if not text.startswith("sha256="):
        return None
    return Claim(signatures=(text.removeprefix("sha256=").encode("latin-1"),))


def _stripe_claim(headers: Headers) -> Claim | None:
    times, signatures = [], []
    for item in _only(headers, "stripe-signature").split(","):
        name, _, value = item.partition("=")
        if name == "t":
            times.append(value)
        elif name == "v1":
            signatures.append(value.encode("latin-1"))
    if len(times) != 1 or _SECONDS(times[0]) is None:
        return None
    return Claim(signatures=tuple(signatures), signed_before=f"{times[0]}.".encode(), timestamp=int(times[0]))


def _standard_claim(headers: Headers) -> Claim | None:
    message_id, time = _only(headers, "webhook-id"), _only(headers, "webhook-timestamp")
    if not message_id or _SECONDS(time) is None:
        return None
    signatures = [
        item.removeprefix("v1,").encode("latin-1")
        for item in _only(headers, "webhook-signature").split(" ")
        if item.startswith("v1,")
    ]
    return Claim(
        signatures=tuple(signatures),
        signed_before=f"{message_id}.{time}.".encode("latin-1"),
        timestamp=int(time),
    )


def _only(headers: Headers, name: str) -> str:
    """Return a header that must be there once, else nothing: of two, a proxy may have checked the other one."""
    values = headers.getlist(name)
    return values[0] if len(values) == 1 else ""


def _plain_key(secret: str) -> bytes:
    return secret.encode()


def _standard_key(secret: str) -> bytes:
    try:
        return b64decode(secret.removeprefix("whsec_"), validate=True)
    except ValueError:
        raise ValueError("a secret of Standard Webhooks is whsec_ and base64") from None


SCHEMES: dict[SchemeName, Scheme] = {
    "github": Scheme(
        claim=_github_claim,
        key=_plain_key,
        encode=binascii.hexlify,
        delivery_id=Template.parse("{header.X-GitHub-Delivery}"),
    ),
    "stripe": Scheme(
        claim=_stripe_claim, key=_plain_key, encode=binascii.hexlify, delivery_id=Template.parse("{body.id}")
    ),
    "standard": Scheme(
        claim=_standard_claim,
        key=_standard_key,
        encode=b64encode,
        delivery_id=Template.parse("{header.webhook-id}"),
    ),
}
