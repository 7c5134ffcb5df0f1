"""What a deployment is scaled by."""

from hivewire.observation import Observation, SessionRecord, TypeObservation
from hivewire_operator.loads import Load, load_of


def of_type(name: str, lag: int) -> TypeObservation:
    return TypeObservation(
        name=name,
        kind="sharded",
        shards=16,
        shards_owned=0,
        lag_messages=lag,
        oldest_event_s=None,
        dead_letters=0,
    )


def session(name: str, deployment: str, *, calls: int = 0, received: int = 0) -> SessionRecord:
    return SessionRecord(
        session=name, deployment=deployment, instance=name, state="serving", calls=calls, received=received
    )


SEEN = Observation(
    types=(of_type("cart", 7), of_type("mail", 3), of_type("other", 100)),
    sessions=(
        session("s1", "shop", calls=2, received=9),
        session("s2", "shop", calls=1),
        session("s3", "bank", calls=5),
    ),
    shards_owned={},
    dead_letters={},
)


def test_it_is_what_waits_for_all_types_and_the_calls_in_all_pods() -> None:
    load = load_of(SEEN, "shop", ["cart", "mail"])
    assert load == Load(lag_messages=10, calls=3, received={"s1": 9, "s2": 0})
    assert load.messages == 13


def test_it_is_unknown_while_a_type_is_not_registered() -> None:
    assert load_of(SEEN, "shop", ["cart", "new"]) is None
