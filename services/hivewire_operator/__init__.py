"""The Kubernetes operator: from AgentSystems, AgentDeployments and AgentSubscriptions to pods, streams, subscriptions.

Any number of replicas may run; one of them works.
"""

from hivewire_operator.process import OperatorEndedError, OperatorProcess
from hivewire_operator.settings import OperatorSettings

__all__ = ["OperatorEndedError", "OperatorProcess", "OperatorSettings"]
