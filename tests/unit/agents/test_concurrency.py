from collections.abc import Mapping
from typing import Any, Literal

import pytest

from hivewire.agents.base import BaseAgent
from hivewire.agents.concurrency import checked_concurrency, is_serial, persists


class Forgetful(BaseAgent):
    pass


class Remembering(BaseAgent):
    async def save_state(self) -> Mapping[str, Any]:
        return {"a": 1}


class AlwaysSerial(BaseAgent):
    concurrency = "serial"


class NeverSerial(Remembering):
    concurrency = "interleaved"


def test_an_agent_persists_when_it_overrides_save_state() -> None:
    assert not persists(Forgetful)
    assert persists(Remembering)
    assert persists(Remembering())


def test_the_class_decides_before_the_option() -> None:
    assert is_serial(AlwaysSerial, "interleaved", default_persisting=False)
    assert not is_serial(NeverSerial, "serial", default_persisting=True)


@pytest.mark.parametrize("agent_class", [Forgetful, Remembering])
@pytest.mark.parametrize(("option", "serial"), [("serial", True), ("interleaved", False)])
def test_the_option_decides_before_the_default(
    agent_class: type, option: Literal["serial", "interleaved"], serial: bool
) -> None:
    assert is_serial(agent_class, option, default_persisting=True) is serial


def test_by_default_agents_with_state_are_serial_where_the_runtime_says_so() -> None:
    assert is_serial(Remembering, None, default_persisting=True)
    assert not is_serial(Forgetful, None, default_persisting=True)
    assert not is_serial(Remembering, None, default_persisting=False)


def test_another_value_is_refused() -> None:
    class Wrong(BaseAgent):
        concurrency = "parallel"

    with pytest.raises(ValueError, match="attribute `concurrency` of an agent class must be"):
        is_serial(Wrong, None, default_persisting=True)
    with pytest.raises(ValueError, match="option must be 'serial', 'interleaved' or None, not 'x'"):
        checked_concurrency("x", "option")
