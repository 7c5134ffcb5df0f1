"""A public name is there on purpose: taking one away or adding one changes this file."""

import subprocess
import sys

import hivewire

AUTOGEN_NAMES = [
    "Agent",
    "AgentId",
    "AgentInstantiationContext",
    "AgentMetadata",
    "AgentProxy",
    "AgentRuntime",
    "AgentType",
    "BaseAgent",
    "CacheStore",
    "CancellationToken",
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
    "DefaultInterventionHandler",
    "DefaultSubscription",
    "DefaultTopicId",
    "DropMessage",
    "EVENT_LOGGER_NAME",
    "FunctionCall",
    "Image",
    "InMemoryStore",
    "InterventionHandler",
    "JSON_DATA_CONTENT_TYPE",
    "MessageContext",
    "MessageHandlerContext",
    "MessageSerializer",
    "PROTOBUF_DATA_CONTENT_TYPE",
    "ROOT_LOGGER_NAME",
    "RoutedAgent",
    "SingleThreadedAgentRuntime",
    "Subscription",
    "SubscriptionInstantiationContext",
    "TRACE_LOGGER_NAME",
    "TopicId",
    "TypePrefixSubscription",
    "TypeSubscription",
    "UnknownPayload",
    "default_subscription",
    "event",
    "is_component_class",
    "is_component_instance",
    "message_handler",
    "rpc",
    "trace_create_agent_span",
    "trace_invoke_agent_span",
    "trace_tool_span",
    "try_get_known_serializers_for_type",
    "type_subscription",
]
"""The top level of AutoGen core 0.7.5."""

OWN_NAMES = [
    "AccessDeniedError",
    "AgentNotFoundError",
    "BrokerUnavailableError",
    "CantHandleException",
    "DataclassJsonMessageSerializer",
    "DeadlineExceededError",
    "HivewireError",
    "HttpAgentRuntime",
    "KvStore",
    "MessageDroppedException",
    "MessageStream",
    "MessageTooLargeError",
    "NatsAgentRuntime",
    "NotAccessibleError",
    "OverloadedError",
    "ProtobufMessageSerializer",
    "PydanticJsonMessageSerializer",
    "RemoteAgentError",
    "RetryPolicy",
    "RpcCall",
    "RuntimeStateError",
    "Schedule",
    "ScheduleHandle",
    "ScheduleNotFoundError",
    "ScheduleRule",
    "SerializationError",
    "StateConflictError",
    "StreamNotFoundError",
    "SubscriptionNotFoundError",
    "UndeliverableException",
    "UnsupportedFormatError",
    "WorkerLostError",
    "__version__",
    "create_distributed_runtime",
    "handles",
    "register_exception",
    "stateless_worker",
]


def test_all_is_what_autogen_has_and_the_additions() -> None:
    assert sorted(hivewire.__all__) == sorted(AUTOGEN_NAMES + OWN_NAMES)


def test_all_55_names_of_autogen_core_are_there() -> None:
    assert len(set(AUTOGEN_NAMES)) == 55
    assert not [name for name in AUTOGEN_NAMES if not hasattr(hivewire, name)]


def test_every_public_name_can_be_imported_and_is_named_once() -> None:
    assert len(set(hivewire.__all__)) == len(hivewire.__all__)
    for name in hivewire.__all__:
        assert getattr(hivewire, name) is not None


def test_nothing_of_hivewire_is_at_the_top_level_without_being_public() -> None:
    # A process of its own: what other tests imported shows as attributes here.
    program = (
        "import hivewire\n"
        "for name in hivewire.__all__: getattr(hivewire, name)\n"
        "own = [n for n, v in vars(hivewire).items() if str(getattr(v, '__module__', '')).startswith('hivewire')]\n"
        "print(sorted(n for n in own if n not in hivewire.__all__ and not n.startswith('_')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_version_is_a_release_number() -> None:
    assert all(part.isdecimal() for part in hivewire.__version__.split(".")[:2])
