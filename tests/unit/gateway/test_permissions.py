"""Principals may do what their patterns match, and nothing else."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hivewire import AgentId, TopicId
from hivewire_gateway.problems import Problem
from hivewire_gateway.security.patterns import PairPattern, Pattern
from hivewire_gateway.security.principals import NOTHING, UNRESTRICTED, Permissions, Principal

NAMES = st.text(alphabet="abc.-*/", max_size=6)


def allowed(check: Callable[[], None]) -> bool:
    try:
        check()
    except Problem as problem:
        assert problem.status == 403
        return False
    return True


def principal(**rules: list[str]) -> Principal:
    pairs = {rule: tuple(map(PairPattern.from_str, texts)) for rule, texts in rules.items() if rule != "serve"}
    return Principal(name="shop", permissions=Permissions(**pairs, serve=tuple(map(Pattern, rules.get("serve", [])))))


@given(st.text(alphabet="abc.-", min_size=1, max_size=6), NAMES)
def test_a_name_matches_itself_alone_and_a_prefix_what_begins_like_it(name: str, other: str) -> None:
    assert Pattern(name).matches(other) == (name == other)
    assert Pattern(name + "*").matches(other) == other.startswith(name)
    assert Pattern("*").matches(other)


@pytest.mark.parametrize("text", ["", "*a", "a*b", "**", "a**"])
def test_a_star_anywhere_but_at_the_end_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Pattern(text)


@pytest.mark.parametrize("text", ["", "orders", "orders/", "/shop", "a*b/c"])
def test_a_pair_needs_both_sides(text: str) -> None:
    with pytest.raises(ValueError):
        PairPattern.from_str(text)


def test_a_source_may_have_slashes() -> None:
    assert PairPattern.from_str("orders//shops/*").matches("orders", "/shops/1")
    assert not PairPattern.from_str("orders//shops/*").matches("orders", "shops/1")


def test_each_rule_is_for_one_thing() -> None:
    shop = principal(publish=["orders/shop-*"], read=["receipts/shop-1", "news*/*"], send=["greeter/*"], serve=["till"])
    assert allowed(lambda: shop.check_publish(TopicId("orders", "shop-1")))
    assert not allowed(lambda: shop.check_publish(TopicId("orders", "store")))
    assert not allowed(lambda: shop.check_publish(TopicId("receipts", "shop-1")))
    assert allowed(lambda: shop.check_read("receipts", "shop-1"))
    assert not allowed(lambda: shop.check_read("receipts", "shop-10"))
    assert not allowed(lambda: shop.check_read("orders", "shop-1"))
    assert allowed(lambda: shop.check_send(AgentId("greeter", "anyone")))
    assert not allowed(lambda: shop.check_send(AgentId("greeter2", "anyone")))
    assert allowed(lambda: shop.check_serve("till"))
    assert not allowed(lambda: shop.check_serve("greeter"))


def test_all_sources_may_be_read_only_by_those_who_may_read_each() -> None:
    shop = principal(read=["receipts/shop-*", "news*/*"])
    assert not allowed(lambda: shop.check_read("receipts", None))
    assert allowed(lambda: shop.check_read("news.world", None))


def test_types_with_a_prefix_may_be_read_only_by_those_who_may_read_all_of_them() -> None:
    shop = principal(read=["orders/*", "news.*/*"])
    for prefix, may in [("orders*", False), ("order*", False), ("*", False), ("news.*", True), ("news.world*", True)]:
        assert allowed(lambda prefix=prefix: shop.check_read(prefix, None)) is may  # type: ignore[misc]
    assert not allowed(lambda: shop.check_read("news*", None))
    assert allowed(lambda: UNRESTRICTED.check_read("*", None))


def test_without_rules_nothing_is_allowed_and_with_stars_everything() -> None:
    for someone, may in ((Principal(name="x", permissions=NOTHING), False), (UNRESTRICTED, True)):
        assert allowed(lambda: someone.check_publish(TopicId("a", "b"))) is may
        assert allowed(lambda: someone.check_read("a", None)) is may
        assert allowed(lambda: someone.check_send(AgentId("a", "b"))) is may
        assert allowed(lambda: someone.check_serve("a")) is may


def test_a_refusal_names_the_rule() -> None:
    with pytest.raises(Problem, match="'shop' may not publish to orders/x: no pattern of its 'publish' rule"):
        principal().check_publish(TopicId("orders", "x"))
