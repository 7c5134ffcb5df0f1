"""`hivewire trace` shows what became of a message at each agent, and what came of it."""

import json
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from signal import SIGTERM
from typing import Any

import pytest

from broker.cli.commands import CommandLine, eventually
from broker.cli.seeds import Seeds, letter
from hivewire.cli.app import run

SHOP = '''
from pathlib import Path

from hivewire import MessageContext, RetryPolicy, RoutedAgent, TopicId, event, stateless_worker, type_subscription


@type_subscription("orders")
class Stock(RoutedAgent):
    """Tells that an order is packed."""

    @event
    async def order(self, message: dict, ctx: MessageContext) -> None:
        for number in range(2):
            await self.publish_message({"packed": number}, TopicId("packed", self.id.key))


@type_subscription("orders")
class Biller(RoutedAgent):
    """Gives up while there is no money."""

    retry_policy = RetryPolicy(attempts=1)

    @event
    async def order(self, message: dict, ctx: MessageContext) -> None:
        if not Path("money").exists():
            raise ValueError("no money")


@type_subscription("packed")
@stateless_worker
class Postman(RoutedAgent):
    @event
    async def packed(self, message: dict, ctx: MessageContext) -> None:
        Path("sent").touch()


@type_subscription("orders")
class Archive(RoutedAgent):
    @event
    async def order(self, message: dict, ctx: MessageContext) -> None:
        pass


async def shop(runtime):
    await Stock.register(runtime, "stock", Stock)
    await Biller.register(runtime, "biller", Biller)
    await Postman.register(runtime, "postman", Postman)


async def archive(runtime):
    await Archive.register(runtime, "archive", Archive)
'''


TRACE_ID = "0af7651916cd43dd8448eb211c80319c"


def prints(cli: CommandLine, *arguments: str) -> str:
    """Run a command in this process, which is quicker than in another one."""
    where = ["--broker", cli.environment["BROKER_URL"], "--namespace", cli.environment["HIVEWIRE_NAMESPACE"]]
    with redirect_stdout(StringIO()) as printed:
        assert run([*arguments, *where]) == 0
    return printed.getvalue()


def test_of_a_message_that_is_gone_the_dead_letters_are_left(cli: CommandLine, seeds: Seeds) -> None:
    of_trace = {"traceparent": f"00-{TRACE_ID}-b7ad6b7169203331-01"}
    first, second = letter("greeter/ada", 12), letter("greeter/bob", 13)
    seeds.dead(
        replace(second, headers={**second.headers, **of_trace}),
        replace(first, headers={**first.headers, **of_trace}),
        letter("greeter/eve", 14),
    )
    found = json.loads(prints(cli, "trace", "message-12", "--json"))
    assert [(each["agent"], each["id"]) for each in found["dead_letters"]] == [
        ("greeter/bob", "message-13"),
        ("greeter/ada", "message-12"),
    ]
    assert (found["traces"], found["messages"], found["looked_at"]["dead_letters"]) == ([TRACE_ID], [], 3)
    assert json.loads(prints(cli, "trace", TRACE_ID, "--json"))["dead_letters"] == found["dead_letters"]
    page = prints(cli, "trace", "message-12")
    assert "  greeter/ada 12   attempt 5, " in page and "    ValueError: nobody to greet\n" in page


class Shop:
    """Agents that an order goes to: two that are served, and one whose process has ended."""

    def __init__(self, cli: CommandLine) -> None:
        self.cli = cli
        (cli.directory / "shop.py").write_text(SHOP)
        archive, self.worker = cli.start("run", "shop:archive"), cli.start("run", "shop:shop")
        archive.shows("is served")
        archive.signal(SIGTERM)
        archive.ends()
        self.worker.shows("is served")
        cli.publish("orders/ada", '{"secret": "melon"}')
        eventually(lambda: self.dead, "the order is not given up")
        (row,) = self.dead
        self.order_id, self.sequence = row["id"], row["sequence"]
        eventually((cli.directory / "sent").exists, "nothing is packed")

    @property
    def dead(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in prints(self.cli, "dead", "ls", "--json").splitlines() if line[0] == "{"]

    def trace(self, wanted: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(prints(self.cli, "trace", wanted, "--json"))
        return found


@pytest.fixture
def shop(cli: CommandLine) -> Iterator[Shop]:
    yield Shop(cli)


def states(message: dict[str, Any]) -> dict[str, str]:
    return {fate["agent"]: fate["state"] for fate in message["agents"]}


def test_each_agent_a_message_went_to_is_told_of_and_what_came_of_it(shop: Shop, tmp_path: Path) -> None:
    expected = {"archive/ada": "waiting", "biller/ada": "dead", "stock/ada": "finished"}
    # A position is written a moment after its event is finished.
    eventually(lambda: states(shop.trace(shop.order_id)["messages"][0]) == expected, "the order is not finished")
    order, *packed = shop.trace(shop.order_id)["messages"]
    assert (order["kind"], order["sequence"], order["topic"], order["source"]) == (
        "own",
        shop.sequence,
        "orders",
        "ada",
    )
    assert (order["type"], order["size_bytes"], order["sender"]) == ("dict", 18, None)
    archive, biller, _ = order["agents"]
    assert archive["why"] == "no process serves archive"
    assert (biller["dead_letter"]["error"], biller["dead_letter"]["message"]) == ("ValueError", "no money")
    assert [(each["kind"], each["topic"], each["sender"]) for each in packed] == [("caused", "packed", "stock/ada")] * 2
    assert {each["cause"]["sequence"] for each in packed} == {shop.sequence}
    assert packed[0]["cause"]["agent"] == "stock/ada"
    assert list(states(packed[0])) == ["postman/ada"]

    (tmp_path / "money").touch()
    prints(shop.cli, "dead", "replay", "--all")
    replayed = {**expected, "biller/ada": "replayed"}
    eventually(
        lambda: (
            [states(each) for each in shop.trace(shop.order_id)["messages"] if each["kind"] == "own"]
            == [replayed, {"biller/ada": "finished"}]
        ),
        "the order is not handled in the end",
    )
    first, *_, again = shop.trace(shop.order_id)["messages"]
    assert first["agents"][1]["replayed_as"] == [again["sequence"]]
    assert (again["recipient"], again["lineage"]) == ("biller/ada", [shop.sequence])

    page = prints(shop.cli, "trace", shop.order_id)
    for text in (
        "the message:\n",
        f"    biller/ada   given up and sent again as {again['sequence']}\n",
        "    archive/ada   waiting: no process serves archive\n",
        "what its turns published:\n",
        f"    published by stock/ada for {shop.sequence}\n",
        f"    sent again; it was given up as {shop.sequence}\n",
        "looked at all 4 events and 0 dead letters",
    ):
        assert text in page, page
    assert "melon" not in page

    # What came of it has an id of its own, and leads no way back.
    (alone,) = shop.trace(packed[1]["id"])["messages"]
    assert (alone["kind"], alone["sequence"]) == ("own", packed[1]["sequence"])
    assert "nothing is left of" in shop.cli.fails("trace", "other", "--since", "1h", code=1)
    assert "the newer 0 events" in shop.cli.fails("trace", shop.order_id, "--since", "2099-01-01", code=1)
