"""Signs deliveries as their senders do, by the senders' own descriptions."""

import base64
import hashlib
import hmac
import json


def github(secret: str, body: bytes, *, delivery: str = "72d3162e-cc78-11e3-81ab-4c9367dc0958") -> dict[str, str]:
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {
        "content-type": "application/json",
        "x-github-event": "push",
        "x-github-delivery": delivery,
        "x-hub-signature-256": f"sha256={signature}",
    }


def stripe(*secrets: str, body: bytes, time: int) -> dict[str, str]:
    signatures = [hmac.new(each.encode(), b"%d." % time + body, hashlib.sha256).hexdigest() for each in secrets]
    header = ",".join([f"t={time}", *(f"v1={signature}" for signature in signatures), "v0=6ffbb59b2300aae63f27240606"])
    return {"content-type": "application/json; charset=utf-8", "stripe-signature": header}


def standard(
    *secrets: str, body: bytes, time: int, message_id: str = "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W"
) -> dict[str, str]:
    signatures = []
    for secret in secrets:
        key = base64.b64decode(secret.removeprefix("whsec_"))
        digest = hmac.new(key, f"{message_id}.{time}.".encode() + body, hashlib.sha256).digest()
        signatures.append(f"v1,{base64.b64encode(digest).decode()}")
    return {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(time),
        "webhook-signature": " ".join(signatures),
    }


def compact(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
