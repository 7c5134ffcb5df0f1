"""What each component must not do at the broker, and what comes next to it: for servers in tests, and for a release."""

from dataclasses import dataclass

from hivewire.provisioning import Subjects

OTHERS = (
    "$SYS.REQ.SERVER.PING",
    "$JS.API.STREAM.NAMES",
    "$JS.API.STREAM.LIST",
    "$JS.API.ACCOUNT.PURGE.A",
    "other.rpc.a",
)
_BUCKETS = ("state", "registry", "leases", "positions")

Subscription = tuple[str, str]
"""A subject and a queue group; empty: none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusals:
    """What is refused in one namespace.

    Attributes:
        deployment: Whose worker is tried.
        served: A type with shards that it serves.
        other: A type that it does not serve.
        stateless: A stateless type that others serve.
    """

    namespace: str
    deployment: str
    served: str
    other: str
    stateless: str

    def publishes(self, component: str) -> list[str]:
        """Return what `worker`, `gateway`, `gateway with workers`, `administrator` or `operator` may not publish to."""
        ns = self.namespace
        if component == "administrator":
            return self._of_administrator()
        if component == "operator":
            return self._of_operator()
        refused = self._of_all_but_the_operator()
        if component == "gateway with workers":
            refused.append(f"$KV.{ns}_leases.{self.deployment}.s1")
        elif component == "gateway":
            refused += [
                f"$KV.{ns}_state.{self.served}.k",
                f"$KV.{ns}_leases._gateway.s1",
                f"$KV.{ns}_registry.{self.served}.type",
                f"{ns}.marker.{self.served}",
                f"{ns}.inbox.{self.served}.1.193.k1",
                f"{ns}.pod.{self.deployment}.s1",
                f"$JS.API.CONSUMER.MSG.NEXT.{self._subjects.schedules_stream}.forward",
                f"$JS.API.STREAM.MSG.GET.KV_{ns}_state",
            ]
        return refused

    def subscriptions(self, component: str) -> list[Subscription]:
        """Return what `worker`, `gateway`, `administrator` or `operator` may not listen to."""
        ns, deployment, served = self.namespace, self.deployment, self.served
        everything = [(">", ""), ("_INBOX.>", ""), (f"{ns}.event.>", ""), ("$SYS.>", "")]
        if component == "worker":
            return [*everything, *self._not_heard_by_workers()]
        serving = [(f"_INBOX.{ns}.{deployment}.>", ""), (f"{ns}.rpc.{served}.>", served)]
        if component == "gateway":
            return [*everything, *serving, (f"{ns}.pod._gateway.*", ""), ("$KV.>", "")]
        return [*everything, *serving, (f"{ns}.cancel.*", ""), (f"$KV.{ns}_state.>", "")]

    @property
    def _subjects(self) -> Subjects:
        return Subjects(self.namespace)

    def _not_heard_by_workers(self) -> list[Subscription]:
        ns, served, other = self.namespace, self.served, self.other
        return [
            (f"_INBOX.{ns}.>", ""),
            (f"_INBOX.{ns}.{other}.>", ""),
            (f"_INBOX.{ns}._operator.>", ""),
            (f"_INBOX.other.{self.deployment}.>", ""),
            (f"{ns}.>", ""),
            (f"{ns}.rpc.>", ""),
            (f"{ns}.rpc.*.>", served),
            (f"{ns}.rpc.{other}.>", other),
            (f"{ns}.rpc.{other}.1.193.k1", ""),
            (f"{ns}.rpc.{served}.>", ""),
            (f"{ns}.rpc.{served}.>", other),
            (f"{ns}.pod.>", ""),
            (f"{ns}.pod.{other}.*", ""),
            (f"{ns}.chunk.*", ""),
            (f"{ns}.wake.*", ""),
            (f"$KV.{ns}_state.>", ""),
            ("other.rpc.>", ""),
            ("$JS.API.>", ""),
            ("$JS.EVENT.ADVISORY.>", ""),
        ]

    def _of_operator(self) -> list[str]:
        ns = self.namespace
        return [
            f"{ns}.rpc.{self.served}.1.193.k1",
            f"{ns}.cancel.c1",
            f"{ns}.pod.{self.deployment}.s1",
            f"_INBOX.other.{self.deployment}.x",
            f"$KV.{ns}_state.{self.served}.k",
            f"$KV.{ns}_leases.{self.deployment}.s1",
            f"$JS.API.STREAM.MSG.GET.KV_{ns}_state",
            f"$JS.API.STREAM.PURGE.KV_{ns}_registry",
            f"$JS.API.CONSUMER.CREATE.KV_{ns}_state.mine",
            "$JS.API.STREAM.CREATE.OTHER",
            "$JS.API.STREAM.DELETE.OTHER",
            "$SYS.REQ.CLAIMS.UPDATE",
            "$SYS.REQ.SERVER.PING",
        ]

    def _of_administrator(self) -> list[str]:
        ns, names = self.namespace, self._subjects
        events, schedules, dead = names.events_stream, names.schedules_stream, names.dead_stream
        streams = (events, schedules, names.chunks_stream, dead, *(f"KV_{ns}_{each}" for each in _BUCKETS))
        return [
            *(f"$JS.API.STREAM.{what}.{each}" for what in ("CREATE", "UPDATE", "DELETE") for each in streams),
            *(f"$JS.API.STREAM.PURGE.{each}" for each in streams if each != schedules),
            *(f"$JS.API.STREAM.MSG.DELETE.{each}" for each in streams if each != dead),
            *(f"$JS.API.CONSUMER.{what}.{events}.{self.stateless}" for what in ("CREATE", "MSG.NEXT", "DELETE")),
            f"$JS.API.CONSUMER.DELETE.{schedules}.forward",
            f"$KV.{ns}_registry.{self.served}.type",
            f"$KV.{ns}_positions.{self.served}.0",
            f"$KV.{ns}_leases.{self.deployment}.s1",
            f"{ns}.marker.{self.served}",
            f"{ns}.events.1.193.k1.t",
            *OTHERS,
        ]

    def _of_all_but_the_operator(self) -> list[str]:
        ns, names, stateless = self.namespace, self._subjects, self.stateless
        events, schedules, dead = names.events_stream, names.schedules_stream, names.dead_stream
        streams = (events, schedules, names.chunks_stream, dead, *(f"KV_{ns}_{each}" for each in _BUCKETS))
        changes = ("CREATE", "UPDATE", "DELETE", "MSG.DELETE")
        api = [f"$JS.API.STREAM.{what}.{each}" for what in changes for each in streams]
        api += [f"$JS.API.STREAM.PURGE.{each}" for each in streams if each != schedules]
        api += [f"$JS.API.STREAM.{what}.OTHER" for what in ("INFO", "MSG.GET")]
        api += [f"$JS.API.STREAM.INFO.KV_{ns}_state", f"$JS.API.STREAM.MSG.GET.{dead}"]
        api += [f"$JS.API.STREAM.CREATE.KV_{ns}_KV_mine", f"$JS.API.STREAM.SNAPSHOT.{events}"]
        api += [f"$JS.API.STREAM.MSG.GET.KV_{ns}_state", f"$JS.API.DIRECT.GET.KV_{ns}_state"]
        read = (f"{self.other}.k", ">", "*.k")
        api += [f"$JS.API.DIRECT.GET.KV_{ns}_state.$KV.{ns}_state.{each}" for each in read]
        consumers = [f"$JS.API.CONSUMER.DURABLE.CREATE.{events}.mine", f"$JS.API.CONSUMER.PAUSE.{events}.mine"]
        uses = ("CREATE", "MSG.NEXT", "DELETE", "RESET")
        consumers += [f"$JS.API.CONSUMER.{what}.{events}.{stateless}" for what in uses]
        consumers += [f"$JS.API.CONSUMER.CREATE.{events}.mine.{ns}.events.>", f"$JS.API.CONSUMER.LIST.{events}"]
        closed = (schedules, dead, f"KV_{ns}_state", f"KV_{ns}_positions")
        consumers += [f"$JS.API.CONSUMER.CREATE.{each}.mine" for each in closed]
        consumers += [f"$JS.API.CONSUMER.{what}.{schedules}.forward" for what in ("DELETE", "CREATE")]
        consumers += [f"$JS.ACK.{events}.{stateless}.1.1.1.1.1", f"$JS.ACK.hub.AB.{events}.{stateless}.1.1.1.1.1.x"]
        records = [f"$KV.{ns}_state.{self.other}.k", f"$KV.{ns}_positions.{self.other}.0"]
        records += [f"$KV.{ns}_registry.{self.other}.{each}" for each in ("type", "messages")]
        records += [f"$KV.{ns}_leases.{self.other}.s1", f"$KV.{ns}_state.{self.served}.k.more"]
        messages = [f"{ns}.marker.{self.other}", f"{ns}.dead.{self.other}.k.1"]
        messages += [f"{ns}.events.1.193.k1.t", f"{ns}.due.x"]
        return [*api, *consumers, *records, *messages, *OTHERS]
