import copy
import pickle
import subprocess
import sys
from enum import Enum

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from hivewire.model.ids import AgentId, AgentType, check_agent_type, check_strict_agent_id, is_strict_type

types = st.from_regex(r"[\w\-.]+\Z", fullmatch=True)


@settings(deadline=None)
@given(types, st.text())
def test_an_agent_id_reads_back_what_it_prints(type, key):
    id = AgentId(type, key)
    assert (id.type, id.key, str(id)) == (type, key, f"{type}/{key}")
    assert AgentId.from_str(str(id)) == id
    assert hash(AgentId(type, key)) == hash(id)


def test_the_first_slash_separates_type_and_key():
    assert AgentId.from_str("a/b/c") == AgentId("a", "b/c")
    assert AgentId.from_str("a/") == AgentId("a", "")
    for text in ("a", "", "/b", "a b/c"):
        with pytest.raises(ValueError):
            AgentId.from_str(text)


@pytest.mark.parametrize("key", ["", "a\nb", "a/b", "🐝" * 400, "\x00", " "])
def test_any_string_is_a_key(key):
    assert AgentId(type="t", key=key).key == key


@pytest.mark.parametrize("type", ["", "a b", "a/b", "worker\n", "a:b", "a*", "🐝"])
def test_other_types_than_words_with_dashes_and_dots_are_refused(type):
    with pytest.raises(ValueError, match="Invalid agent type"):
        AgentId(type, "k")
    with pytest.raises(ValueError, match="Invalid agent type"):
        check_agent_type(type)


def test_type_and_key_must_be_strings():
    for arguments in ((1, "k"), (None, "k"), ("t", 1), ("t", None), ("t", b"k")):
        with pytest.raises(TypeError):
            AgentId(*arguments)


def test_an_agent_type_or_an_enum_of_strings_may_stand_for_the_type():
    class Kind(str, Enum):  # noqa: UP042  # the older kind, whose str() is not its value
        WORKER = "worker"

    for type in (AgentType("worker"), Kind.WORKER):
        id = AgentId(type, Kind.WORKER)
        assert str(id) == "worker/worker"
        assert id.type.__class__ is str and id.key.__class__ is str


def test_agent_ids_are_equal_by_value_and_to_nothing_else():
    id = AgentId("t", "k")
    assert id == AgentId("t", "k")
    assert id != AgentId("t", "l")
    assert id != AgentId("u", "k")
    assert id != "t/k"
    assert {id: 1}[AgentId("t", "k")] == 1


@pytest.mark.parametrize("name", ["type", "key", "other"])
def test_an_agent_id_cannot_be_changed(name):
    with pytest.raises(AttributeError):
        setattr(AgentId("t", "k"), name, "x")


def test_an_agent_id_can_be_copied_and_pickled():
    id = AgentId("t", "k")
    for other in (copy.copy(id), copy.deepcopy(id), pickle.loads(pickle.dumps(id))):
        assert other == id
        assert hash(other) == hash(id)


def test_a_pickled_agent_id_is_found_in_another_process_with_other_string_hashes():
    script = (
        "import pickle, sys; from hivewire.model.ids import AgentId;"
        "id = pickle.loads(sys.stdin.buffer.read()); print({AgentId('t', 'k'): 'found'}.get(id))"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], input=pickle.dumps(AgentId("t", "k")), capture_output=True, check=True
    )
    assert found.stdout.strip() == b"found"


def test_an_agent_id_can_be_a_field_of_a_message():
    adapter = TypeAdapter(dict[AgentId, list[AgentId]])
    ids = {AgentId("t", "k"): [AgentId("u", "l/m")]}
    assert adapter.dump_json(ids) == b'{"t/k":["u/l/m"]}'
    assert adapter.validate_json(adapter.dump_json(ids)) == ids
    assert adapter.validate_python(ids) == ids
    with pytest.raises(ValidationError):
        adapter.validate_json('{"no slash":[]}')


def test_an_agent_type_prints_as_documented_and_knows_both_names_of_its_field():
    assert repr(AgentType("worker")) == "AgentType(type='worker')"
    assert AgentType(name="worker") == AgentType(type="worker") == AgentType("worker")
    assert AgentType("worker").name == "worker"
    assert len({AgentType("a"), AgentType("a")}) == 1
    with pytest.raises(AttributeError):
        AgentType("worker").type = "other"


def test_an_agent_type_takes_exactly_one_name():
    with pytest.raises(TypeError):
        AgentType()
    with pytest.raises(TypeError):
        AgentType("a", name="b")


def test_an_agent_type_is_checked_when_it_is_registered_not_before():
    assert AgentType("not valid").type == "not valid"


@pytest.mark.parametrize("id", [AgentId("Worker_1", "a ~!/"), AgentId("w", "")])
def test_strict_ids_allow_letters_digits_underscores_and_printable_ascii(id):
    check_strict_agent_id(id)


@pytest.mark.parametrize("id", [AgentId("my-worker", "k"), AgentId("a.b", "k"), AgentId("ä", "k")])
def test_strict_ids_refuse_wider_types(id):
    assert not is_strict_type(id.type)
    with pytest.raises(ValueError, match="strict_ids"):
        check_strict_agent_id(id)


@pytest.mark.parametrize("key", ["ä", "\n", "\x7f", "🐝"])
def test_strict_ids_refuse_wider_keys(key):
    with pytest.raises(ValueError, match="strict_ids"):
        check_strict_agent_id(AgentId("w", key))
