"""A process that takes part in an election. While it leads it prints when, again and again.

Called as `elector.py KUBECONFIG NAMESPACE IDENTITY DURATION_S RETRY_S`.
"""

import asyncio
import logging
import signal
import sys
import time

from kubernetes.aio import client, config

from hivewire_operator.candidacy import LeaseTimes
from hivewire_operator.cluster import Cluster
from hivewire_operator.election import Leadership, LeadershipLostError


async def main(kubeconfig: str, namespace: str, identity: str, duration_s: str, retry_s: str) -> None:
    await config.load_kube_config(kubeconfig)
    async with Cluster(client.ApiClient(), timeout_s=float(retry_s)) as cluster:
        times = LeaseTimes(duration_s=int(duration_s), retry_s=float(retry_s))
        leadership = Leadership(cluster, namespace=namespace, name="elected", identity=identity, times=times)
        running = asyncio.ensure_future(leadership.run(lambda: tell(leadership)))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
        try:
            await running
        except asyncio.CancelledError:
            print("stopped")
        except LeadershipLostError as error:
            print(f"lost: {error}")


async def tell(leadership: Leadership) -> None:
    while True:
        # Taken before it asks: what it prints was true at that time, wherever it is frozen.
        at = time.monotonic()
        if leadership.leads():
            print(f"leads {at}")
        await asyncio.sleep(0.002)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    asyncio.run(main(*sys.argv[1:]))
