"""Signatures: the vectors of the senders' documentation, and any change of what is signed."""

import base64
from collections.abc import Callable

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from hivewire_gateway.hooks.signatures import SCHEMES, SchemeName
from unit.gateway.hooks.senders import compact, github, standard, stripe

NOW = 1_700_000_000
WINDOW_S = 300.0
PLAIN = "a secret that is shared"
OTHER = "another one"
WHSEC = "whsec_" + base64.b64encode(b"0123456789abcdef01234567").decode()
WHSEC_OTHER = "whsec_" + base64.b64encode(b"76543210fedcba9876543210").decode()
BODY = compact({"id": "evt_1", "text": "Grüße, 世界 🎉", "list": [1, 2.5, None]})

Sender = Callable[[bytes], dict[str, str]]
SENDERS: dict[SchemeName, tuple[str, str, Sender]] = {
    "github": (PLAIN, OTHER, lambda body: github(PLAIN, body)),
    "stripe": (PLAIN, OTHER, lambda body: stripe(PLAIN, body=body, time=NOW)),
    "standard": (WHSEC, WHSEC_OTHER, lambda body: standard(WHSEC, body=body, time=NOW)),
}
SIGNED_HEADERS = {
    "github": ["x-hub-signature-256"],
    "stripe": ["stripe-signature"],
    "standard": ["webhook-id", "webhook-timestamp", "webhook-signature"],
}

schemes = pytest.mark.parametrize("name", list(SENDERS))


def is_signed(
    name: SchemeName, headers: dict[str, str] | Headers, body: bytes, *secrets: str, now: float = NOW
) -> bool:
    scheme = SCHEMES[name]
    keys = [scheme.key(secret) for secret in secrets]
    read = headers if isinstance(headers, Headers) else Headers(headers)
    return scheme.is_signed(read, body, keys, now=now, window_s=WINDOW_S)


def test_the_vector_of_githubs_documentation() -> None:
    signature = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    headers = {"X-Hub-Signature-256": f"sha256={signature}"}
    assert is_signed("github", headers, b"Hello, World!", "It's a Secret to Everybody")
    assert not is_signed("github", {"X-Hub-Signature-256": signature}, b"Hello, World!", "It's a Secret to Everybody")


def test_the_vector_of_standard_webhooks() -> None:
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    for secret in ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"):
        assert is_signed("standard", headers, b'{"test": 2432232314}', secret, now=1614265330)
        assert not is_signed("standard", headers, b'{"test": 2432232315}', secret, now=1614265330)


def test_a_vector_for_stripe_by_another_implementation() -> None:
    # printf '1700000000.{"id":"evt_1"}' | openssl dgst -sha256 -hmac whsec_test
    headers = {"Stripe-Signature": "t=1700000000,v1=c89214b5b5da833daed6f0b8c5bb6bd58cea9022bd80ccc78230f3942d632925"}
    assert is_signed("stripe", headers, b'{"id":"evt_1"}', "whsec_test")


@schemes
def test_any_of_the_secrets_will_do_and_no_other(name: SchemeName) -> None:
    secret, other, sender = SENDERS[name]
    headers = sender(BODY)
    assert is_signed(name, headers, BODY, secret)
    assert is_signed(name, headers, BODY, other, secret)
    assert not is_signed(name, headers, BODY, other)
    assert not is_signed(name, headers, BODY)


def test_one_of_several_signatures_is_enough() -> None:
    assert is_signed("stripe", stripe(OTHER, PLAIN, body=BODY, time=NOW), BODY, PLAIN)
    assert is_signed("standard", standard(WHSEC_OTHER, WHSEC, body=BODY, time=NOW), BODY, WHSEC)
    headers = standard(WHSEC, body=BODY, time=NOW)
    public_key_signature = "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZ"
    headers["webhook-signature"] = f"{public_key_signature} {headers['webhook-signature']}"
    assert is_signed("standard", headers, BODY, WHSEC)


@pytest.mark.parametrize("name", ["stripe", "standard"])
@pytest.mark.parametrize(("after_s", "good"), [(-301, False), (-300, True), (0, True), (300, True), (301, False)])
def test_a_time_outside_of_the_window_is_refused(name: SchemeName, after_s: float, good: bool) -> None:
    secret, _, sender = SENDERS[name]
    assert is_signed(name, sender(BODY), BODY, secret, now=NOW + after_s) is good


@schemes
def test_a_header_that_is_missing_or_there_twice_is_refused(name: SchemeName) -> None:
    secret, _, sender = SENDERS[name]
    headers = sender(BODY)
    for header in SIGNED_HEADERS[name]:
        assert not is_signed(name, {key: value for key, value in headers.items() if key != header}, BODY, secret)
        pairs = [*headers.items(), (header, headers[header])]
        raw = [(key.encode(), value.encode()) for key, value in pairs]
        assert not is_signed(name, Headers(raw=raw), BODY, secret)


@pytest.mark.parametrize(
    ("name", "header", "value"),
    [
        ("github", "x-hub-signature-256", "sha256="),
        ("github", "x-hub-signature-256", "sha1=00"),
        ("github", "x-hub-signature-256", "sha256=é"),
        ("stripe", "stripe-signature", ""),
        ("stripe", "stripe-signature", "t=,v1="),
        ("stripe", "stripe-signature", "t=-1,v1=00"),
        ("stripe", "stripe-signature", "t=1e9,v1=00"),
        ("stripe", "stripe-signature", "t=٣,v1=00".encode().decode("latin-1")),
        ("stripe", "stripe-signature", "t=1700000000"),
        ("stripe", "stripe-signature", "v1=00"),
        ("stripe", "stripe-signature", "t=" + "9" * 5000 + ",v1=00"),
        ("standard", "webhook-timestamp", "now"),
        ("standard", "webhook-timestamp", "1700000000.0"),
        ("standard", "webhook-signature", "v1,"),
        ("standard", "webhook-signature", "v1"),
        ("standard", "webhook-signature", "v2,00"),
        ("standard", "webhook-id", ""),
    ],
)
def test_headers_that_make_no_sense_are_refused(name: SchemeName, header: str, value: str) -> None:
    secret, _, sender = SENDERS[name]
    assert not is_signed(name, {**sender(BODY), header: value}, BODY, secret)


def test_so_many_signatures_are_not_even_tried() -> None:
    headers = stripe(*[OTHER] * 20, PLAIN, body=BODY, time=NOW)
    assert not is_signed("stripe", headers, BODY, PLAIN)


def test_two_times_are_refused() -> None:
    headers = stripe(PLAIN, body=BODY, time=NOW)
    headers["stripe-signature"] = f"t={NOW + 1},{headers['stripe-signature']}"
    assert not is_signed("stripe", headers, BODY, PLAIN)


@pytest.mark.parametrize("secret", ["whsec_%%%", "whsec_abcde", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n", "whsec_é"])
def test_a_secret_of_standard_webhooks_has_to_be_base64_and_is_not_repeated(secret: str) -> None:
    with pytest.raises(ValueError) as error:
        SCHEMES["standard"].key(secret)
    assert secret.removeprefix("whsec_") not in str(error.value)


@schemes
@given(body=st.binary(max_size=200))
def test_any_body_can_be_signed(name: SchemeName, body: bytes) -> None:
    secret, _, sender = SENDERS[name]
    assert is_signed(name, sender(body), body, secret)


@schemes
@given(position=st.integers(0, len(BODY) - 1), byte=st.integers(0, 255))
def test_any_change_of_the_body_is_seen(name: SchemeName, position: int, byte: int) -> None:
    secret, _, sender = SENDERS[name]
    assume(BODY[position] != byte)
    headers = sender(BODY)
    assert not is_signed(name, headers, BODY[:position] + bytes([byte]) + BODY[position + 1 :], secret)
    assert not is_signed(name, headers, BODY[:position] + BODY[position + 1 :], secret)
    assert not is_signed(name, headers, BODY[:position] + bytes([byte]) + BODY[position:], secret)


@schemes
@given(data=st.data())
def test_any_change_of_a_signed_header_is_seen(name: SchemeName, data: st.DataObject) -> None:
    secret, _, sender = SENDERS[name]
    headers = sender(BODY)
    header = data.draw(st.sampled_from(SIGNED_HEADERS[name]))
    text = headers[header].partition(",v0=")[0]
    position = data.draw(st.integers(0, len(text) - 1))
    character = data.draw(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=text[position]))
    assert not is_signed(name, {**headers, header: text[:position] + character + text[position + 1 :]}, BODY, secret)
    assert not is_signed(name, {**headers, header: text[:position] + text[position + 1 :]}, BODY, secret)
