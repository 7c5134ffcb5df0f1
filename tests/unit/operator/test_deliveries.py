"""What an AgentSubscription says of delivery."""

from hivewire.provisioning import DeliveryPolicy
from hivewire_operator.deliveries import delivery_policy
from hivewire_operator.resources.agent_subscription import Delivery


def test_each_field_becomes_that_of_the_policy() -> None:
    said = {"attempts": 3, "firstDelaySeconds": 1, "maxDelaySeconds": 9, "timeoutSeconds": 20, "deadLetters": "Drop"}
    assert delivery_policy(Delivery.model_validate(said)) == DeliveryPolicy(
        attempts=3, first_delay_s=1, max_delay_s=9, timeout_s=20, dead_letters=False
    )


def test_what_is_not_said_is_left_to_the_class() -> None:
    assert delivery_policy(None) is None
    assert delivery_policy(Delivery()) == DeliveryPolicy()
