import copy
import dataclasses
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from hivewire.model.contexts import MessageHandlerContext
from hivewire.model.ids import AgentId
from hivewire.model.topics import DefaultTopicId, TopicId, check_strict_topic_id

types = st.from_regex(r"[\w\-.:=]+\Z", fullmatch=True)


@settings(deadline=None)
@given(types, st.text())
def test_a_topic_id_reads_back_what_it_prints(type, source):
    topic = TopicId(type=type, source=source)
    assert (topic.type, topic.source, str(topic)) == (type, source, f"{type}/{source}")
    assert TopicId.from_str(str(topic)) == topic
    assert hash(TopicId(type, source)) == hash(topic)


def test_the_first_slash_separates_type_and_source():
    assert TopicId.from_str("task.status/worker-1/2") == TopicId("task.status", "worker-1/2")
    with pytest.raises(ValueError):
        TopicId.from_str("no-slash")


@pytest.mark.parametrize("type", ["", "a b", "a/b", "news.*", "news.>", "t\n", "🐝"])
def test_other_types_are_refused(type):
    with pytest.raises(ValueError, match="Invalid topic type"):
        TopicId(type, "s")


def test_type_and_source_must_be_strings():
    with pytest.raises(TypeError):
        TopicId("t", None)
    with pytest.raises(TypeError):
        TopicId(1, "s")


def test_row_57_topics_are_equal_whatever_their_class():
    assert DefaultTopicId() == TopicId("default", "default")
    assert TopicId("default", "default") == DefaultTopicId()
    assert hash(DefaultTopicId()) == hash(TopicId("default", "default"))
    assert TopicId("a", "b") != TopicId("a", "c")
    assert TopicId("a", "b") != "a/b"


def test_a_topic_id_is_a_frozen_dataclass():
    topic = TopicId("t", "s")
    for name in ("type", "source", "_hash"):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(topic, name, "x")
    assert dataclasses.asdict(topic) == {"type": "t", "source": "s"}
    assert dataclasses.replace(topic, source="r") == TopicId("t", "r")
    assert repr(topic) == "TopicId(type='t', source='s')"


@pytest.mark.parametrize("topic", [TopicId("t", "s"), DefaultTopicId("t", "s")])
def test_a_topic_id_can_be_copied_and_pickled(topic):
    for other in (copy.copy(topic), copy.deepcopy(topic), pickle.loads(pickle.dumps(topic))):
        assert other == topic
        assert type(other) is type(topic)


def test_a_topic_id_can_be_a_field_of_a_message():
    adapter = TypeAdapter(list[TopicId])
    assert adapter.dump_json([TopicId("t", "s")]) == b'[{"type":"t","source":"s"}]'
    assert adapter.validate_json(b'[{"type":"t","source":"s"}]') == [TopicId("t", "s")]
    assert adapter.validate_python([DefaultTopicId()]) == [DefaultTopicId()]
    with pytest.raises(ValidationError):
        adapter.validate_json(b'[{"type":"not valid","source":"s"}]')


def test_a_default_topic_has_the_key_of_the_handler_as_its_source():
    with MessageHandlerContext.populate_context(AgentId("worker", "key-1")):
        assert DefaultTopicId() == TopicId("default", "key-1")
        assert DefaultTopicId("news") == TopicId("news", "key-1")
        assert DefaultTopicId(source="mine") == TopicId("default", "mine")
    assert DefaultTopicId() == TopicId("default", "default")


def test_strict_ids_refuse_what_could_not_be_a_strict_key():
    check_strict_topic_id(TopicId("task.status:a=b", "worker 1"))
    with pytest.raises(ValueError, match="strict_ids"):
        check_strict_topic_id(TopicId("t", "ä"))
    with pytest.raises(ValueError, match="strict_ids"):
        check_strict_topic_id(TopicId("ä", "s"))
