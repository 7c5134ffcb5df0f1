"""The ledgers as the operator keeps them: a ConfigMap in its own namespace for each namespace that it sees to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from hivewire_operator.cluster import ApiError, ApiUnavailableError, Cluster, Object
from hivewire_operator.ledger import Ledger
from hivewire_operator.names import FIELD_MANAGER
from hivewire_operator.resources.fields import GROUP

__all__ = ["Ledgers", "MalformedLedgerError"]

LEDGER_LABEL: Final = f"{GROUP}/ledger-of"

_KEY: Final = "ledger"
_ATTEMPTS: Final = 5


class MalformedLedgerError(Exception):
    """A ledger can't be read. It is not written over, as nobody knows then what is left to do."""


class Ledgers:
    """Reads and changes ledgers. A change is never made on what somebody else has changed meanwhile.

    Args:
        own_namespace: Where they are.
    """

    def __init__(self, cluster: Cluster, *, own_namespace: str) -> None:
        self._cluster = cluster
        self._own_namespace = own_namespace

    async def namespaces(self) -> list[str]:
        """Return the namespaces of which there is a ledger.

        Raises:
            ApiUnavailableError, ApiError: as `Cluster.find`.
        """
        found = await self._cluster.find("ConfigMap", self._own_namespace, labels=LEDGER_LABEL)
        return sorted(each["metadata"]["labels"][LEDGER_LABEL] for each in found)

    async def load(self, namespace: str) -> Ledger:
        """Return the ledger of a namespace.

        Raises:
            MalformedLedgerError: it can't be read.
            ApiUnavailableError, ApiError: as `Cluster.get`.
        """
        return self._parsed(namespace, await self._cluster.get("ConfigMap", self._own_namespace, _name(namespace)))

    async def change(self, namespace: str, change: Callable[[Ledger], Ledger]) -> Ledger:
        """Change the ledger of a namespace, and return it as it is then.

        Args:
            change: May be called several times, each time with what there is then.

        Raises:
            MalformedLedgerError: it can't be read.
            ApiUnavailableError: no answer, or somebody else was faster again and again.
            ApiError, NotLeadingError: as `Cluster`.
        """
        for _ in range(_ATTEMPTS):
            found = await self._cluster.get("ConfigMap", self._own_namespace, _name(namespace))
            before = self._parsed(namespace, found)
            after = change(before)
            if after == before:
                return after
            try:
                await self._store(namespace, found, after)
            except ApiError as error:
                # 409: somebody else has made or changed it. 404: has removed it.
                if error.status not in (404, 409):
                    raise
            else:
                return after
        raise ApiUnavailableError(f"The ledger of {namespace} was changed by others {_ATTEMPTS} times in a row")

    async def _store(self, namespace: str, found: Object | None, ledger: Ledger) -> None:
        data = {_KEY: ledger.text()}
        if found is None:
            metadata = {"namespace": self._own_namespace, "name": _name(namespace), "labels": _labels(namespace)}
            manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
            await self._cluster.create("ConfigMap", manifest)
            return
        # With the version that was read, the server refuses the patch if there is another one.
        version = {"resourceVersion": found["metadata"]["resourceVersion"], "labels": _labels(namespace)}
        await self._cluster.merge(
            "ConfigMap", self._own_namespace, _name(namespace), {"metadata": version, "data": data}
        )

    def _parsed(self, namespace: str, found: Object | None) -> Ledger:
        try:
            return Ledger.parse("" if found is None else (found.get("data") or {}).get(_KEY, ""))
        except ValueError as error:
            raise MalformedLedgerError(
                f"The ConfigMap {self._own_namespace}/{_name(namespace)} is {error}. Without it nobody knows which "
                "logins to revoke and what to delete: look at it, then remove it."
            ) from None


def _name(namespace: str) -> str:
    return f"hivewire-ledger-{namespace}"


def _labels(namespace: str) -> dict[str, str]:
    return {"app.kubernetes.io/managed-by": FIELD_MANAGER, LEDGER_LABEL: namespace}
