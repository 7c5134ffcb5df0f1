"""Hivewire: AutoGen-style agents in one process, or as stateless pods on NATS and Kubernetes.

A name is imported from its module at its first use, so that what needs few of them, such as the help of the command
line, starts at once. Type checkers see plain imports; a test keeps the two lists in step.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from hivewire._version import __version__

if TYPE_CHECKING:
    from hivewire.agents.base import BaseAgent, handles
    from hivewire.agents.closure import ClosureAgent, ClosureContext
    from hivewire.agents.handlers import event, message_handler, rpc
    from hivewire.agents.proxy import AgentProxy
    from hivewire.agents.retries import RetryPolicy
    from hivewire.agents.routed import RoutedAgent
    from hivewire.agents.stateless import stateless_worker
    from hivewire.distributed import KvStore, NatsAgentRuntime, create_distributed_runtime
    from hivewire.exceptions import (
        AccessDeniedError,
        AgentNotFoundError,
        BrokerUnavailableError,
        CantHandleException,
        DeadlineExceededError,
        HivewireError,
        MessageDroppedException,
        MessageTooLargeError,
        NotAccessibleError,
        OverloadedError,
        RemoteAgentError,
        RuntimeStateError,
        ScheduleNotFoundError,
        SerializationError,
        StateConflictError,
        StreamNotFoundError,
        SubscriptionNotFoundError,
        UndeliverableException,
        UnsupportedFormatError,
        WorkerLostError,
        register_exception,
    )
    from hivewire.http import HttpAgentRuntime
    from hivewire.local import SingleThreadedAgentRuntime
    from hivewire.logging import EVENT_LOGGER_NAME, ROOT_LOGGER_NAME, TRACE_LOGGER_NAME
    from hivewire.model.caches import CacheStore, InMemoryStore
    from hivewire.model.cancellation import CancellationToken
    from hivewire.model.components import (
        Component,
        ComponentBase,
        ComponentFromConfig,
        ComponentLoader,
        ComponentModel,
        ComponentSchemaType,
        ComponentToConfig,
        ComponentType,
        is_component_class,
        is_component_instance,
    )
    from hivewire.model.contexts import (
        AgentInstantiationContext,
        MessageContext,
        MessageHandlerContext,
        SubscriptionInstantiationContext,
    )
    from hivewire.model.function_call import FunctionCall
    from hivewire.model.ids import AgentId, AgentMetadata, AgentType
    from hivewire.model.images import Image
    from hivewire.model.interventions import DefaultInterventionHandler, DropMessage, InterventionHandler
    from hivewire.model.runtime import Agent, AgentRuntime
    from hivewire.model.schedule_rules import ScheduleRule
    from hivewire.model.schedules import Schedule, ScheduleHandle
    from hivewire.model.serialization import (
        JSON_DATA_CONTENT_TYPE,
        PROTOBUF_DATA_CONTENT_TYPE,
        DataclassJsonMessageSerializer,
        MessageSerializer,
        ProtobufMessageSerializer,
        PydanticJsonMessageSerializer,
        RpcCall,
        UnknownPayload,
        try_get_known_serializers_for_type,
    )
    from hivewire.model.streams import MessageStream
    from hivewire.model.subscriptions import (
        DefaultSubscription,
        Subscription,
        TypePrefixSubscription,
        TypeSubscription,
        default_subscription,
        type_subscription,
    )
    from hivewire.model.topics import DefaultTopicId, TopicId
    from hivewire.telemetry import trace_create_agent_span, trace_invoke_agent_span, trace_tool_span

__all__ = [
    "EVENT_LOGGER_NAME",
    "JSON_DATA_CONTENT_TYPE",
    "PROTOBUF_DATA_CONTENT_TYPE",
    "ROOT_LOGGER_NAME",
    "TRACE_LOGGER_NAME",
    "AccessDeniedError",
    "Agent",
    "AgentId",
    "AgentInstantiationContext",
    "AgentMetadata",
    "AgentNotFoundError",
    "AgentProxy",
    "AgentRuntime",
    "AgentType",
    "BaseAgent",
    "BrokerUnavailableError",
    "CacheStore",
    "CancellationToken",
    "CantHandleException",
    "ClosureAgent",
    "ClosureContext",
    "Component",
    "ComponentBase",
    "ComponentFromConfig",
    "ComponentLoader",
    "ComponentModel",
    "ComponentSchemaType",
    "ComponentToConfig",
    "ComponentType",
    "DataclassJsonMessageSerializer",
    "DeadlineExceededError",
    "DefaultInterventionHandler",
    "DefaultSubscription",
    "DefaultTopicId",
    "DropMessage",
    "FunctionCall",
    "HivewireError",
    "HttpAgentRuntime",
    "Image",
    "InMemoryStore",
    "InterventionHandler",
    "KvStore",
    "MessageContext",
    "MessageDroppedException",
    "MessageHandlerContext",
    "MessageSerializer",
    "MessageStream",
    "MessageTooLargeError",
    "NatsAgentRuntime",
    "NotAccessibleError",
    "OverloadedError",
    "ProtobufMessageSerializer",
    "PydanticJsonMessageSerializer",
    "RemoteAgentError",
    "RetryPolicy",
    "RoutedAgent",
    "RpcCall",
    "RuntimeStateError",
    "Schedule",
    "ScheduleHandle",
    "ScheduleNotFoundError",
    "ScheduleRule",
    "SerializationError",
    "SingleThreadedAgentRuntime",
    "StateConflictError",
    "StreamNotFoundError",
    "Subscription",
    "SubscriptionInstantiationContext",
    "SubscriptionNotFoundError",
    "TopicId",
    "TypePrefixSubscription",
    "TypeSubscription",
    "UndeliverableException",
    "UnknownPayload",
    "UnsupportedFormatError",
    "WorkerLostError",
    "__version__",
    "create_distributed_runtime",
    "default_subscription",
    "event",
    "handles",
    "is_component_class",
    "is_component_instance",
    "message_handler",
    "register_exception",
    "rpc",
    "stateless_worker",
    "trace_create_agent_span",
    "trace_invoke_agent_span",
    "trace_tool_span",
    "try_get_known_serializers_for_type",
    "type_subscription",
]

_SUBMODULES = frozenset(("distributed", "exceptions", "logging", "telemetry"))

_NAMES = {
    "hivewire.agents.base": (
        "BaseAgent",
        "handles",
    ),
    "hivewire.agents.closure": (
        "ClosureAgent",
        "ClosureContext",
    ),
    "hivewire.agents.handlers": (
        "event",
        "message_handler",
        "rpc",
    ),
    "hivewire.agents.proxy": ("AgentProxy",),
    "hivewire.agents.retries": ("RetryPolicy",),
    "hivewire.agents.routed": ("RoutedAgent",),
    "hivewire.agents.stateless": ("stateless_worker",),
    "hivewire.distributed": (
        "KvStore",
        "NatsAgentRuntime",
        "create_distributed_runtime",
    ),
    "hivewire.exceptions": (
        "AccessDeniedError",
        "AgentNotFoundError",
        "BrokerUnavailableError",
        "CantHandleException",
        "DeadlineExceededError",
        "HivewireError",
        "MessageDroppedException",
        "MessageTooLargeError",
        "NotAccessibleError",
        "OverloadedError",
        "RemoteAgentError",
        "RuntimeStateError",
        "ScheduleNotFoundError",
        "SerializationError",
        "StateConflictError",
        "StreamNotFoundError",
        "SubscriptionNotFoundError",
        "UndeliverableException",
        "UnsupportedFormatError",
        "WorkerLostError",
        "register_exception",
    ),
    "hivewire.http": ("HttpAgentRuntime",),
    "hivewire.local": ("SingleThreadedAgentRuntime",),
    "hivewire.logging": (
        "EVENT_LOGGER_NAME",
        "ROOT_LOGGER_NAME",
        "TRACE_LOGGER_NAME",
    ),
    "hivewire.model.caches": (
        "CacheStore",
        "InMemoryStore",
    ),
    "hivewire.model.cancellation": ("CancellationToken",),
    "hivewire.model.components": (
        "Component",
        "ComponentBase",
        "ComponentFromConfig",
        "ComponentLoader",
        "ComponentModel",
        "ComponentSchemaType",
        "ComponentToConfig",
        "ComponentType",
        "is_component_class",
        "is_component_instance",
    ),
    "hivewire.model.contexts": (
        "AgentInstantiationContext",
        "MessageContext",
        "MessageHandlerContext",
        "SubscriptionInstantiationContext",
    ),
    "hivewire.model.function_call": ("FunctionCall",),
    "hivewire.model.ids": (
        "AgentId",
        "AgentMetadata",
        "AgentType",
    ),
    "hivewire.model.images": ("Image",),
    "hivewire.model.interventions": (
        "DefaultInterventionHandler",
        "DropMessage",
        "InterventionHandler",
    ),
    "hivewire.model.runtime": (
        "Agent",
        "AgentRuntime",
    ),
    "hivewire.model.schedule_rules": ("ScheduleRule",),
    "hivewire.model.schedules": (
        "Schedule",
        "ScheduleHandle",
    ),
    "hivewire.model.serialization": (
        "JSON_DATA_CONTENT_TYPE",
        "PROTOBUF_DATA_CONTENT_TYPE",
        "DataclassJsonMessageSerializer",
        "MessageSerializer",
        "ProtobufMessageSerializer",
        "PydanticJsonMessageSerializer",
        "RpcCall",
        "UnknownPayload",
        "try_get_known_serializers_for_type",
    ),
    "hivewire.model.streams": ("MessageStream",),
    "hivewire.model.subscriptions": (
        "DefaultSubscription",
        "Subscription",
        "TypePrefixSubscription",
        "TypeSubscription",
        "default_subscription",
        "type_subscription",
    ),
    "hivewire.model.topics": (
        "DefaultTopicId",
        "TopicId",
    ),
    "hivewire.telemetry": (
        "trace_create_agent_span",
        "trace_invoke_agent_span",
        "trace_tool_span",
    ),
}

_HOMES = {name: module for module, names in _NAMES.items() for name in names}

# Type checkers would take this function as leave for any name.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name in _SUBMODULES:
            return import_module(f"hivewire.{name}")
        if name not in _HOMES:
            raise AttributeError(f"module 'hivewire' has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(_HOMES[name]), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_SUBMODULES})
