"""What an AgentSubscription says of the delivery of its events, as the library takes it."""

from __future__ import annotations

from hivewire.provisioning import DeliveryPolicy
from hivewire_operator.resources.agent_subscription import Delivery


def delivery_policy(delivery: Delivery | None) -> DeliveryPolicy | None:
    """Return the policy; None: all is as the agent's class says.

    Raises:
        ValueError: the first delay is longer than the longest, which the API server refuses too.
    """
    if delivery is None:
        return None
    return DeliveryPolicy(
        attempts=delivery.attempts,
        first_delay_s=delivery.first_delay_seconds,
        max_delay_s=delivery.max_delay_seconds,
        timeout_s=delivery.timeout_seconds,
        dead_letters=delivery.dead_letters == "Keep",
    )
