"""A peer of Hivewire that shares no code with it: nats-py and docs/protocol.md are all it knows.

A process of its own. It takes one command a line on standard input, a JSON object with "do" and its arguments, and
answers each with one line of JSON. It ends at the end of its input.
"""

import asyncio
import json
import re
import secrets
import sys
from base64 import b32encode, b64decode
from hashlib import sha256
from typing import Any
from urllib.parse import quote, unquote

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

NANOSECONDS = 1_000_000_000
NOT_EXECUTED = ("moved", "overloaded")


def token(text: str) -> str:
    if not text:
        return "="
    data = text.encode()
    escaped = re.sub(rb"[^A-Za-z0-9_-]", lambda byte: b"=%02X" % byte[0][0], data).decode()
    return escaped if len(escaped) <= 128 else "==" + b32encode(sha256(data).digest()).decode().rstrip("=")


def slot(text: str) -> int:
    value = 0x811C9DC5
    for byte in token(text).encode():
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value % 256


def address(text: str) -> str:
    return f"{slot(text) % 16}.{slot(text)}.{token(text)}"


def topic_tokens(topic_type: str) -> str:
    return ".".join(token(piece) for part in topic_type.split(".") for piece in re.split(r"(?<=:)", part))


def header(text: str) -> str:
    return quote(text, safe="!#$&'()*+,-./:;<=>?@[\\]^_`{|}~")


def event_id(topic_type: str, source: str, message_id: str) -> str:
    texts = [text.encode() for text in (topic_type, source, message_id)]
    return sha256(b"".join(b"%d:%s" % (len(text), text) for text in texts)).hexdigest()[:32]


class Peer:
    def __init__(self, client: Client, namespace: str) -> None:
        self._client = client
        self._namespace = namespace
        self._stream = f"{namespace.upper()}_EVENTS"
        self._cancelled = asyncio.Event()

    async def register(self, type: str) -> dict[str, Any]:
        """Register a stateless type without subscriptions: its record, its marker, and where it begins."""
        record = {"type": type, "kind": "stateless", "shards": 1, "declared": [], "added": []}
        record |= {"change": 1, "marked": 0, "begins": None}
        subject = f"$KV.{self._namespace}_registry.{token(type)}.type"
        revision = await self._store(subject, record, {"Nats-Expected-Last-Subject-Sequence": "0"})
        subscriptions = {"change": 1, "set": []}
        marker = await self._store(f"{self._namespace}.marker.{token(type)}", {"type": type, **subscriptions}, {})
        created = (await self._api(f"STREAM.INFO.{self._stream}", {}))["created"]
        record |= {"marked": 1, "begins": {"sequence": marker, "stream": created, "subscriptions": subscriptions}}
        await self._store(subject, record, {"Nats-Expected-Last-Subject-Sequence": str(revision)})
        return record

    async def serve(self, type: str) -> None:
        """Answer the direct messages to a type, and listen for cancels."""
        await self._client.subscribe(f"{self._namespace}.cancel.*", cb=self._on_cancel)
        await self._client.subscribe(f"{self._namespace}.rpc.{token(type)}.>", type, cb=self._on_call)
        await self._client.flush()

    async def was_cancelled(self) -> bool:
        await asyncio.wait_for(self._cancelled.wait(), 20)
        return True

    async def _on_cancel(self, message: Msg) -> None:
        self._cancelled.set()

    async def _on_call(self, message: Msg) -> None:
        headers = message.headers or {}
        assert int(headers["Hw-Left"]) > 0
        assert unquote(headers["Hw-Type"]) == "Question", headers
        text = json.loads(message.data)["text"]
        key_token = message.subject.rpartition(".")[2]
        if text == "fail":
            error = {
                "module": "builtins",
                "qualname": "KeyError",
                "message": "'no such book'",
                "args": ["no such book"],
                "notes": ["looked twice"],
                "agent": "oracle/k",
                "traceback": "somewhere, line 1",
            }
            await self._client.publish(message.reply, json.dumps(error).encode(), headers={"Hw-Status": "error"})
        elif text == "sleep":
            await self._client.publish(message.reply, b"", headers={"Hw-Status": "alive"})
        else:
            answer = {"text": text[::-1], "key": key_token, "sender": unquote(headers.get("Hw-Sender", ""))}
            await self._client.publish(message.reply, b"", headers={"Hw-Status": "alive"})
            await self._client.publish(message.reply, json.dumps(answer).encode(), headers={"Hw-Type": "Answer"})

    async def ask(self, type: str, key: str, type_name: str, value: Any, left_ms: int = 10_000) -> dict[str, Any]:
        """Send a direct message and return the reply's headers and value."""
        subject = f"{self._namespace}.rpc.{token(type)}.{address(key)}"
        headers = {"Hw-Type": header(type_name), "Hw-Left": str(left_ms), "Hw-Sender": header("stranger/a b")}
        if token(key).startswith("=="):
            headers["Hw-Key"] = header(key)
        replies = await self._client.subscribe(reply := f"_INBOX.{secrets.token_hex(16)}")
        while True:
            await self._client.publish(subject, json.dumps(value).encode(), reply, headers)
            answer = await self._final(replies)
            status = (answer.headers or {}).get("Status")
            if status != "503" and (answer.headers or {}).get("Hw-Status") not in NOT_EXECUTED:
                await replies.unsubscribe()
                return {"headers": answer.headers, "value": json.loads(answer.data)}
            await asyncio.sleep(0.05)

    async def publish(self, topic: str, source: str, type_name: str, value: Any, id: str) -> int:
        """Publish an event and return its sequence."""
        headers = {
            "ce-specversion": "1.0",
            "ce-id": header(id),
            "ce-type": header(topic),
            "ce-source": header(source),
            "ce-dataschema": header(type_name),
            "content-type": "application/json",
            "Nats-Msg-Id": event_id(topic, source, id),
        }
        return await self._store(f"{self._namespace}.event.{token(source)}.{topic_tokens(topic)}", value, headers)

    async def consume(self, topic: str, source: str, after: int) -> dict[str, Any]:
        """Read the next event of a topic through a consumer on its stored subject."""
        name = secrets.token_hex(8)
        config = {
            "name": name,
            "ack_policy": "none",
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": after + 1,
            "filter_subjects": [f"{self._namespace}.events.{address(source)}.{topic_tokens(topic)}"],
            "num_replicas": 1,
            "mem_storage": True,
            "inactive_threshold": 30 * NANOSECONDS,
        }
        body = {"stream_name": self._stream, "config": config, "action": "create"}
        await self._api(f"CONSUMER.CREATE.{self._stream}.{name}", body)
        inbox = await self._client.subscribe(reply := f"_INBOX.{secrets.token_hex(16)}")
        pull = json.dumps({"batch": 1, "expires": 20 * NANOSECONDS}).encode()
        await self._client.publish(f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{name}", pull, reply)
        message = await inbox.next_msg(timeout=25)
        await inbox.unsubscribe()
        return {"headers": message.headers, "subject": message.subject, "value": json.loads(message.data)}

    async def record(self, bucket: str, key: str) -> Any:
        """Read a record of a bucket."""
        answer = await self._api(
            f"STREAM.MSG.GET.KV_{self._namespace}_{bucket}", {"last_by_subj": f"$KV.{self._namespace}_{bucket}.{key}"}
        )
        return json.loads(b64decode(answer["message"]["data"]))

    async def _final(self, replies: Any) -> Msg:
        while True:
            answer: Msg = await replies.next_msg(timeout=7)
            if (answer.headers or {}).get("Hw-Status") != "alive":
                return answer

    async def _store(self, subject: str, value: Any, headers: dict[str, str]) -> int:
        stored = json.loads((await self._client.request(subject, json.dumps(value).encode(), 10, headers=headers)).data)
        assert "error" not in stored, stored
        return int(stored["seq"])

    async def _api(self, operation: str, body: dict[str, Any]) -> dict[str, Any]:
        message = await self._client.request(f"$JS.API.{operation}", json.dumps(body).encode(), 10)
        answer: dict[str, Any] = json.loads(message.data)
        assert "error" not in answer, answer
        return answer


async def main(url: str, namespace: str) -> None:
    client = await nats.connect(url)
    peer = Peer(client, namespace)
    while line := await asyncio.to_thread(sys.stdin.readline):
        command = json.loads(line)
        answer = await getattr(peer, command.pop("do"))(**command)
        print(json.dumps(answer), flush=True)
    await client.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
