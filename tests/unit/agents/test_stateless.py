from hivewire.agents.base import BaseAgent
from hivewire.agents.stateless import is_stateless_worker, stateless_worker


def test_the_mark_works_with_and_without_parentheses() -> None:
    @stateless_worker
    class Bare(BaseAgent):
        pass

    @stateless_worker()
    class Called(BaseAgent):
        pass

    assert is_stateless_worker(Bare)
    assert is_stateless_worker(Called)


def test_a_subclass_has_the_mark_and_other_agents_do_not() -> None:
    @stateless_worker
    class Worker(BaseAgent):
        pass

    class Derived(Worker):
        pass

    assert is_stateless_worker(Derived)
    assert not is_stateless_worker(BaseAgent)
