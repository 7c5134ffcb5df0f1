"""The Kubernetes API as the operator uses it: objects as they are in JSON, one deadline for every request.

Whoever leads writes, and nobody else: each write asks first whether this process still may (`may_write`).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import aiohttp
from kubernetes.aio import client, config
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.config.config_exception import ConfigException

from hivewire_operator.names import FIELD_MANAGER
from hivewire_operator.resources.fields import GROUP, VERSION

__all__ = ["ApiError", "ApiUnavailableError", "Cluster", "NotLeadingError", "Object"]

Object = dict[str, Any]

REQUEST_TIMEOUT_S: Final = 15.0
_NETWORK = (aiohttp.ClientError, TimeoutError, OSError)

_PLURALS: Final[Mapping[str, tuple[str, str]]] = {
    "AgentSystem": (f"apis/{GROUP}/{VERSION}", "agentsystems"),
    "AgentDeployment": (f"apis/{GROUP}/{VERSION}", "agentdeployments"),
    "AgentSubscription": (f"apis/{GROUP}/{VERSION}", "agentsubscriptions"),
    "ConfigMap": ("api/v1", "configmaps"),
    "ControllerRevision": ("apis/apps/v1", "controllerrevisions"),
    "Deployment": ("apis/apps/v1", "deployments"),
    "Event": ("apis/events.k8s.io/v1", "events"),
    "Lease": ("apis/coordination.k8s.io/v1", "leases"),
    "PodDisruptionBudget": ("apis/policy/v1", "poddisruptionbudgets"),
    "PodMonitor": ("apis/monitoring.coreos.com/v1", "podmonitors"),
    "Secret": ("api/v1", "secrets"),
    "ServiceAccount": ("api/v1", "serviceaccounts"),
}


class ApiUnavailableError(Exception):
    """The API server did not answer in time, or said that it can't now: to be tried again."""


class ApiError(Exception):
    """The API server refused. `status` is that of HTTP, `reason` the server's word for programs."""

    def __init__(self, message: str, *, status: int, reason: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


class NotLeadingError(Exception):
    """Another operator leads, or may: nothing was written."""


class Cluster:
    """Reads and writes objects: `async with await Cluster.connect() as cluster`.

    Args:
        may_write: Asked before every write.
        timeout_s: How long one request may take.
    """

    def __init__(
        self,
        api: client.ApiClient,
        *,
        may_write: Callable[[], bool] = lambda: True,
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> None:
        self.api = api
        self._may_write = may_write
        self._timeout_s = timeout_s

    @classmethod
    async def connect(
        cls, *, may_write: Callable[[], bool] = lambda: True, timeout_s: float = REQUEST_TIMEOUT_S
    ) -> Cluster:
        """Log in as the pod's ServiceAccount, or outside of a cluster as KUBECONFIG says.

        Raises:
            ApiUnavailableError: there is neither.
        """
        try:
            config.load_incluster_config()
        except ConfigException:
            try:
                await config.load_kube_config()
            except (ConfigException, OSError) as error:
                raise ApiUnavailableError(
                    f"There is no Kubernetes to talk to: this is no pod, and KUBECONFIG does not help: {error}"
                ) from None
        return cls(client.ApiClient(), may_write=may_write, timeout_s=timeout_s)

    async def __aenter__(self) -> Cluster:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.api.close()

    async def get(self, kind: str, namespace: str, name: str) -> Object | None:
        """Return an object; None: there is none.

        Raises:
            ApiUnavailableError: no answer.
            ApiError: the server refuses.
        """
        try:
            return await self._request("GET", _path(kind, namespace, name))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def find(self, kind: str, namespace: str | None = None, *, labels: str = "") -> list[Object]:
        """Return the objects of a kind; of all namespaces if None is given. `labels` is a label selector.

        Raises:
            as `get`.
        """
        query = [("labelSelector", labels)] if labels else []
        found: list[Object] = (await self._request("GET", _path(kind, namespace), query=query))["items"]
        return found

    async def apply(self, kind: str, manifest: Object, *, manager: str = FIELD_MANAGER) -> Object:
        """Bring an object to what the manifest says of it, whatever others said, and return it as it is then.

        Raises:
            NotLeadingError: nothing was written, as somebody else may lead.
            otherwise as `get`.
        """
        metadata = manifest["metadata"]
        return await self._write(
            "PATCH",
            _path(kind, metadata["namespace"], metadata["name"]),
            manifest,
            query=[("fieldManager", manager), ("force", "true")],
            content_type="application/apply-patch+yaml",
        )

    async def merge(self, kind: str, namespace: str, name: str, patch: Object, *, part: str = "") -> Object:
        """Merge a patch (RFC 7396) into an object, or into its subresource `part`, such as `status` or `scale`.

        Raises:
            as `apply`.
        """
        return await self._write(
            "PATCH",
            _path(kind, namespace, name, part),
            patch,
            query=[("fieldManager", FIELD_MANAGER)],
            content_type="application/merge-patch+json",
        )

    async def create(self, kind: str, manifest: Object) -> Object:
        """Create an object.

        Raises:
            as `apply`.
        """
        path = _path(kind, manifest["metadata"]["namespace"])
        return await self._write("POST", path, manifest, query=[("fieldManager", FIELD_MANAGER)])

    async def replace(self, kind: str, found: Object) -> Object:
        """Write an object that was read before, unless somebody else has written it since.

        Raises:
            as `apply`. The status of the error is 409 if somebody has.
        """
        metadata = found["metadata"]
        return await self._write("PUT", _path(kind, metadata["namespace"], metadata["name"]), found)

    async def delete(self, kind: str, namespace: str, name: str) -> None:
        """Delete an object, if it is there.

        Raises:
            as `apply`.
        """
        try:
            await self._write("DELETE", _path(kind, namespace, name), {"propagationPolicy": "Background"})
        except ApiError as error:
            if error.status != 404:
                raise

    async def serves(self, kind: str) -> bool:
        """Tell whether the server knows a kind at all.

        Raises:
            as `get`.
        """
        group, plural = _PLURALS[kind]
        try:
            known = await self._request("GET", f"/{group}")
        except ApiError as error:
            if error.status == 404:
                return False
            raise
        return any(each["name"] == plural for each in known["resources"])

    async def _write(
        self,
        method: str,
        path: str,
        body: Object,
        *,
        query: list[tuple[str, str]] | None = None,
        content_type: str = "application/json",
    ) -> Object:
        if not self._may_write():
            raise NotLeadingError("Another operator may lead by now")
        return await self._request(method, path, query=query, body=body, content_type=content_type)

    async def _request(
        self,
        method: str,
        path: str,
        *,
        query: list[tuple[str, str]] | None = None,
        body: Object | None = None,
        content_type: str = "application/json",
    ) -> Object:
        try:
            async with asyncio.timeout(self._timeout_s):
                request = await self.api.param_serialize(
                    method,
                    path,
                    query_params=query or [],
                    header_params={"Content-Type": content_type, "Accept": "application/json"},
                    body=body,
                    auth_settings=["BearerToken"],
                )
                answer = await self.api.call_api(*request, _request_timeout=self._timeout_s)
                text: bytes = await answer.read()
        except _NETWORK as error:
            raise ApiUnavailableError(f"{method} {path}: {error!r}") from error
        except ApiException as error:
            raise ApiUnavailableError(f"{method} {path}: {error}") from error
        if answer.status >= 400:
            raise _refused(method, path, answer.status, text)
        found: Object = json.loads(text)
        return found


def _path(kind: str, namespace: str | None, name: str = "", part: str = "") -> str:
    group, plural = _PLURALS[kind]
    where = f"namespaces/{namespace}/" if namespace is not None else ""
    return f"/{group}/{where}{plural}" + (f"/{name}" if name else "") + (f"/{part}" if part else "")


def _refused(method: str, path: str, status: int, text: bytes) -> Exception:
    try:
        told = json.loads(text)
        message, reason = str(told.get("message", "")), str(told.get("reason", ""))
    except (ValueError, AttributeError):
        message, reason = text.decode(errors="replace")[:200], ""
    said = f"{method} {path}: {status} {message}"
    if status == 429 or status >= 500:
        return ApiUnavailableError(said)
    return ApiError(said, status=status, reason=reason)
