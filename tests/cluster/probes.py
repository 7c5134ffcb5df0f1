"""Programs that run in a component's own pod, with the credentials that it has there, and try what it must not do."""

import json
from dataclasses import astuple, dataclass

from cluster.release import Release
from refusals import Subscription

_AT_NATS = """
import asyncio, glob, json
from hivewire.nats.client import BrokerClient  # its flush waits for what was sent before

refused = []

async def note(error):
    refused.append("permissions violation" in str(error).lower())

async def main():
    (file,) = glob.glob({credentials!r})
    client = BrokerClient()
    await client.connect({url!r}, user_credentials=file, error_cb=note, allow_reconnect=False)

    async def is_allowed(attempt):
        refused.clear()
        await attempt
        await client.flush(5)
        return not any(refused)

    published = [each for each in {publishes} if await is_allowed(client.publish(each, b"{{}}"))]
    heard = [each for each in {subscriptions} if await is_allowed(client.subscribe(*each))]
    await client.close()
    print(json.dumps([published, heard]))

asyncio.run(main())
"""

_AT_KUBERNETES = """
import json, os, ssl, urllib.error, urllib.request

FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount"
TOKEN = {token!r} or open(FOLDER + "/token").read()
# The address is that of the cluster; whose certificate it shows is not what is looked at.
INSECURE = ssl._create_unverified_context()

def answer(method, path, body, header):
    headers = dict([header] if header else [])
    headers["Content-Type"] = "application/merge-patch+json" if method == "PATCH" else "application/json"
    if TOKEN != "none":
        headers["Authorization"] = "Bearer " + TOKEN
    address = f"https://{{os.environ['KUBERNETES_SERVICE_HOST']}}:{{os.environ['KUBERNETES_SERVICE_PORT']}}"
    data = None if body is None else body.encode()
    request = urllib.request.Request(address + path, method=method, data=data, headers=headers)
    try:
        with urllib.request.urlopen(request, context=INSECURE, timeout=20) as done:
            return done.status
    except urllib.error.HTTPError as error:
        return error.code

print(json.dumps([answer(*each) for each in json.loads({requests!r})]))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request to the API server, with a header beside those that it always has."""

    method: str
    path: str
    body: str | None = None
    header: tuple[str, str] | None = None


def allowed_at_nats(
    release: Release, within: str, *, credentials: str, publishes: list[str], subscriptions: list[Subscription]
) -> tuple[list[str], list[Subscription]]:
    """Try subjects. Returns those that may be published to, and those that may be listened to.

    Args:
        within: As for `Release.run`.
        credentials: The pattern of the path of its login.
    """
    url = release.kubectl.get("agentsystem", "default")["spec"]["nats"]["url"]
    program = _AT_NATS.format(url=url, credentials=credentials, publishes=publishes, subscriptions=subscriptions)
    published, heard = json.loads(release.run(program, within=within))
    return published, [(subject, queue) for subject, queue in heard]


def answers_of_kubernetes(
    release: Release, within: str, requests: list[Request], *, token: str = ""
) -> dict[Request, int]:
    """Ask the API server from within a pod. Returns its status codes.

    Args:
        within: As for `Release.run`.
        token: Another one than the pod's own. `none`: without any.
    """
    asked = json.dumps([astuple(each) for each in requests])
    codes = json.loads(release.run(_AT_KUBERNETES.format(token=token, requests=asked), within=within))
    return dict(zip(requests, codes, strict=True))
