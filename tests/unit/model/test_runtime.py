import inspect

import pytest

from hivewire.model.runtime import Agent, AgentRuntime, TypeRegistrar


def parameters(function: object) -> str:
    return ", ".join(
        f"{p.name}={p.default}" if p.default is not p.empty else p.name
        for p in inspect.signature(function).parameters.values()
        if p.name != "self"
    )


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (
            "send_message",
            "message, recipient, sender=None, cancellation_token=None, message_id=None, timeout=None",
        ),
        ("publish_message", "message, topic_id, sender=None, cancellation_token=None, message_id=None"),
        ("register_factory", "type, agent_factory, expected_class=None"),
        ("register_agent_instance", "agent_instance, agent_id"),
        ("get", "id_or_type, key=default, lazy=True"),
        ("add_message_serializer", "serializer"),
    ],
)
def test_the_runtime_protocol_has_the_parameters_of_the_agent_api(method, expected):
    assert parameters(getattr(AgentRuntime, method)) == expected


def test_the_protocols_can_be_checked_at_run_time():
    class Nothing:
        pass

    for protocol in (Agent, AgentRuntime, TypeRegistrar):
        assert not isinstance(Nothing(), protocol)

    methods = [name for name in vars(Agent) if not name.startswith("_")]
    whole = type("Whole", (), dict.fromkeys(methods, lambda self: None))
    assert isinstance(whole(), Agent)
    assert set(methods) == {
        "metadata", "id", "bind_id_and_runtime", "on_message", "save_state", "load_state", "close"
    }  # fmt: skip
