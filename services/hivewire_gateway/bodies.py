"""Request bodies, read and parsed within limits.

JSON is checked before it is parsed: how deep it nests by one pass over its brackets, so that no text makes the parser
recurse. What JSON does not know (NaN, infinities) or other programs can't hold (half of a surrogate pair) is refused.
"""

from __future__ import annotations

import json
import math
import re
from itertools import accumulate
from typing import Any, NoReturn

from starlette.requests import Request

from hivewire_gateway.problems import Problem

MAX_JSON_DEPTH = 64

# Atomic, and an open string at the end counts as one: no text takes more than one pass.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


async def read_body(request: Request, *, max_bytes: int) -> bytes:
    """Return the body of a request.

    Raises:
        Problem: 413, it is larger than `max_bytes`: when its length is announced, nothing is read of it.
        Problem: 408, 415 and 400 of `BodyStreamMiddleware`.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > max_bytes:
        raise _too_large(max_bytes)
    chunks = bytearray()
    async for chunk in request.stream():
        chunks += chunk
        if len(chunks) > max_bytes:
            raise _too_large(max_bytes)
    return bytes(chunks)


def parse_json(body: bytes) -> Any:
    """Return what a body says as JSON (RFC 8259), in UTF-8.

    Raises:
        Problem: 400, it is not JSON, nests deeper than 64 levels, or has numbers or text that can't be held.
    """
    if nests_deeper_than(body, MAX_JSON_DEPTH):
        raise Problem(400, f"The JSON nests deeper than {MAX_JSON_DEPTH} levels.")
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant, parse_float=_finite)
        if _SURROGATE.search(body) is not None:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise Problem(400, "The JSON has half of a surrogate pair in a string (RFC 8259, 8.2).") from None
    except UnicodeDecodeError as error:
        raise Problem(400, f"The body is not UTF-8, as JSON is: see byte {error.start}.") from None
    except json.JSONDecodeError as error:
        raise Problem(400, f"The body is not JSON: {error.msg} at character {error.pos}.") from None
    except ValueError as error:
        raise Problem(400, f"The body is not JSON: {_why(error)}.") from None
    return value


def nests_deeper_than(body: bytes, levels: int) -> bool:
    """Tell whether arrays and objects nest deeper in what may be JSON. Brackets in strings don't count."""
    if body.count(b"[") + body.count(b"{") <= levels:
        return False
    steps = _STRING.sub(b"", body).translate(_STEPS, _NO_BRACKETS)
    return max(accumulate(memoryview(steps).cast("b")), default=0) > levels


class _NumberError(ValueError):
    pass


def _refuse_constant(name: str) -> NoReturn:
    raise _NumberError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise _NumberError("a number is too large")
    return value


def _why(error: ValueError) -> str:
    # The other one is Python's limit of the digits of an integer, in words that mean nothing to a client.
    return str(error) if isinstance(error, _NumberError) else "an integer has too many digits"


def _too_large(max_bytes: int) -> Problem:
    return Problem(413, f"The body is larger than {max_bytes} bytes: send a reference to the data instead.")
