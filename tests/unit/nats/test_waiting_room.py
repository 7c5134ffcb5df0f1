"""Which direct messages find room, against a model that counts."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hivewire.model.ids import AgentId
from hivewire.nats.waiting_room import WaitingRoom

TYPES = ["a", "b", "c"]
agents = st.builds(AgentId, st.sampled_from(TYPES), st.sampled_from("xyz"))


class Room(RuleBasedStateMachine):
    """Messages for nine agents of three types come in when they may, and leave."""

    @initialize(size=st.integers(1, 60), types=st.integers(0, 3))
    def begin(self, size: int, types: int) -> None:
        self.size = size
        self.room = WaitingRoom(size)
        self.served = TYPES[:types]
        for each in self.served:
            self.room.serve(each)
        self.inside: dict[str, AgentId] = {}
        self.number = 0

    def of_type(self, agent_type: str) -> int:
        return [agent.type for agent in self.inside.values()].count(agent_type)

    @rule(agent=agents, free=st.integers(0, 3), count=st.integers(1, 20))
    def messages_come(self, agent: AgentId, free: int, count: int) -> None:
        for _ in range(count):
            self.number += 1
            has_place = self.room.has_place(agent, free_slots=free, usable_slots=free)
            if has_place:
                assert len(self.inside) < self.size + free
                assert list(self.inside.values()).count(agent) < max(1, self.size // 4) + free
                self.room.enter(str(self.number), agent)
                # What comes a second time counts once.
                self.room.enter(str(self.number), agent)
                self.inside[str(self.number)] = agent

    @precondition(lambda self: self.inside)
    @rule(data=st.data())
    def one_leaves(self, data: st.DataObject) -> None:
        message = data.draw(st.sampled_from(sorted(self.inside)))
        del self.inside[message]
        self.room.leave(message)
        self.room.leave(message)

    @invariant()
    def it_counts_what_is_inside(self) -> None:
        assert len(self.room) == len(self.inside)

    @invariant()
    def a_type_without_messages_finds_room_whatever_the_others_do(self) -> None:
        # Of a size that has a place for each share.
        if len(self.served) == len(TYPES) and self.size >= 4 * len(TYPES) and len(self.inside) < self.size:
            for each in self.served:
                if not self.of_type(each):
                    assert self.room.has_place(AgentId(each, "new"), free_slots=0, usable_slots=0)


TestRoom = Room.TestCase
TestRoom.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_one_agent_fills_a_quarter() -> None:
    room = WaitingRoom(8)
    agent = AgentId("a", "x")
    room.enter("1", agent)
    assert room.has_place(agent, free_slots=0, usable_slots=0)
    room.enter("2", agent)
    assert not room.has_place(agent, free_slots=0, usable_slots=0)
    assert room.has_place(agent, free_slots=1, usable_slots=1)
    assert room.has_place(AgentId("a", "y"), free_slots=0, usable_slots=0)


def test_types_leave_each_other_their_share() -> None:
    room = WaitingRoom(8)
    for each in "ab":
        room.serve(each)
    came = 0
    while room.has_place(AgentId("a", str(came)), free_slots=0, usable_slots=0):
        room.enter(str(came), AgentId("a", str(came)))
        came += 1
    assert came == 7
    assert room.has_place(AgentId("b", "x"), free_slots=0, usable_slots=0)
