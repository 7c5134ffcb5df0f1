"""The API server that the other tests here use."""

import pytest
from kubernetes.aio import client

from api_server import ApiServer


def test_it_knows_the_custom_resources(api_server: ApiServer, namespace: str) -> None:
    assert "agentsystems" in api_server.kubectl(namespace)("api-resources", "--api-group=hivewire.dev")


async def test_a_service_account_may_do_what_its_rules_say_and_no_more(api_server: ApiServer, namespace: str) -> None:
    rule = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}
    kubeconfig = api_server.service_account(namespace, "reader", rule)

    async with await api_server.client(kubeconfig=kubeconfig) as api:
        core = client.CoreV1Api(api)
        assert (await core.list_namespaced_config_map(namespace)).items == []
        with pytest.raises(client.ApiException, match="Forbidden"):
            await core.list_namespaced_secret(namespace)
