"""Templates: what is malformed is refused when it is read, and what is missing is named."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from hivewire_gateway.hooks.templates import MissingValueError, Template

HEADERS = Headers({"X-GitHub-Event": "push", "X-Empty": ""})
BODY: dict[str, Any] = {
    "repository": {"full_name": "octo/cat", "id": 7, "private": True, "size": 1.5, "topics": ["a"], "owner": None},
    "été": "ja",
    "": "nothing",
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("github.{header.X-GitHub-Event}", "github.push"),
        ("{header.x-github-event}", "push"),
        ("{body.repository.full_name}", "octo/cat"),
        ("{body.repository.id}", "7"),
        ("{body.été}", "ja"),
        ("{header.X-GitHub-Event}{body.repository.id}", "push7"),
        ("just a text", "just a text"),
    ],
)
def test_places_get_their_values(template: str, text: str) -> None:
    assert Template.parse(template).render(HEADERS, BODY) == text
    assert str(Template.parse(template)) == template


@pytest.mark.parametrize(
    "place",
    [
        "{header.X-Absent}",
        "{header.X-Empty}",
        "{body.absent}",
        "{body.repository}",
        "{body.repository.private}",
        "{body.repository.size}",
        "{body.repository.topics}",
        "{body.repository.topics.0}",
        "{body.repository.owner}",
        "{body.repository.full_name.more}",
    ],
)
def test_what_is_no_text_and_no_integer_is_named(place: str) -> None:
    with pytest.raises(MissingValueError) as error:
        Template.parse(f"a{place}b").render(HEADERS, BODY)
    assert str(error.value) == f"{place} has to be a text or an integer"


@pytest.mark.parametrize("body", [None, [], "text", 1, True])
def test_a_body_that_is_no_object_has_no_members(body: Any) -> None:
    with pytest.raises(MissingValueError):
        Template.parse("{body.a}").render(HEADERS, body)


@pytest.mark.parametrize(
    "template",
    [
        *("", "{", "}", "a{b", "a}b", "{}", "{0}", "{query.a}", "{HEADER.a}", "{ body.a }", "{body.a }"),
        *("{header}", "{header.}", "{header.a b}", "{body}", "{body.}", "{body.a..b}", "{body.a b}"),
        *("{{body.a}}", "{body.{header.a}}"),
    ],
)
def test_a_malformed_template_is_refused(template: str) -> None:
    with pytest.raises(ValueError):
        Template.parse(template)


@given(st.text())
def test_any_text_is_a_template_or_refused(text: str) -> None:
    try:
        template = Template.parse(text)
    except ValueError:
        return
    assert str(template) == text
    assert "{" not in template.sample()


@given(st.text(min_size=1), st.integers())
def test_values_are_put_in_as_they_are(text: str, number: int) -> None:
    """A value that looks like a place is not rendered again."""
    template = Template.parse("<{body.text}|{body.number}>")
    assert template.render({}, {"text": text, "number": number}) == f"<{text}|{number}>"
    assert template.render({}, {"text": "{body.number}", "number": number}) == f"<{{body.number}}|{number}>"
