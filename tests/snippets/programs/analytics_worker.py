"""Plays the agent `analytics` of the other language, with message classes of its own."""

import asyncio
import os
import statistics
from dataclasses import dataclass

from hivewire import MessageContext, NatsAgentRuntime, RoutedAgent, rpc


@dataclass
class AnalyticsRequest:
    data_points: list[float]


@dataclass
class AnalyticsResponse:
    mean: float
    std_dev: float


class AnalyticsAgent(RoutedAgent):
    @rpc
    async def analyze(self, message: AnalyticsRequest, ctx: MessageContext) -> AnalyticsResponse:
        points = message.data_points
        return AnalyticsResponse(mean=statistics.fmean(points), std_dev=statistics.pstdev(points))


async def main() -> None:
    runtime = NatsAgentRuntime(os.environ["BROKER_URL"])
    await AnalyticsAgent.register(runtime, "analytics", AnalyticsAgent)
    await runtime.start()
    print("ready")
    await runtime.wait_until_stopped()


if __name__ == "__main__":
    asyncio.run(main())
