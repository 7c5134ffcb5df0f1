"""Attributes are what the specification allows, in either mode, and are kept as their canonical text."""

from typing import Any

import pytest

from unit.gateway.events import MINIMAL, binary, read, refused, refused_binary, refused_structured, structured


@pytest.mark.parametrize("name", list(MINIMAL))
def test_an_event_without_a_required_attribute_is_refused(name: str) -> None:
    assert name in refused_structured(**{name: "(missing)"})
    assert name in refused_structured(**{name: None})
    headers = [(f"ce-{other}", value) for other, value in MINIMAL.items() if other != name]
    assert name in refused(400, headers)


@pytest.mark.parametrize("name", [*MINIMAL, "subject", "dataschema", "datacontenttype", "time"])
def test_an_empty_attribute_of_the_specification_is_refused(name: str) -> None:
    assert name in refused_structured(**{name: ""})


@pytest.mark.parametrize("name", [*MINIMAL, "subject", "dataschema", "datacontenttype", "time"])
@pytest.mark.parametrize("value", [25, True, {"x": "y"}, ["x"], 1.5])
def test_an_attribute_of_the_specification_that_is_no_string_is_refused(name: str, value: Any) -> None:
    assert name in refused_structured(**{name: value})


@pytest.mark.parametrize(
    ("version", "text"), [("0.3", "CloudEvents 1.0"), ("1.1", "only"), ("1", "only"), ("1.0 ", "")]
)
def test_only_version_1_0_is_understood(version: str, text: str) -> None:
    assert text in refused_structured(specversion=version)


@pytest.mark.parametrize("name", ["Upper", "my.extension", "my-extension", "my_extension", "", "ä", "x y"])
def test_attribute_names_are_lower_case_letters_and_digits(name: str) -> None:
    refused_structured(**{name: "x"})


@pytest.mark.parametrize("name", ["my-extension", "my_extension", "data", "data_base64", "a.b", ""])
def test_attribute_names_in_headers_are_letters_and_digits(name: str) -> None:
    refused_binary(**{name: "x"})


def test_attribute_names_in_headers_are_read_in_any_case() -> None:
    (event,) = read([(f"CE-{name.upper()}", value) for name, value in {**MINIMAL, "ext": "X"}.items()]).events
    assert (event.id, event.attributes) == ("1", {"ext": "X"})


@pytest.mark.parametrize("name", ["agagentsendertype", "agagentsenderkey", "agmsgkind", "hwformat"])
def test_nobody_poses_as_an_agent(name: str) -> None:
    assert "Hivewire" in refused_structured(**{name: "x"})
    assert "Hivewire" in refused_binary(**{name: "x"})


def test_extensions_are_kept_as_their_canonical_text() -> None:
    event = structured(text="x", integer=-10, yes=True, no=False, gone=None, uri="//authority/path", empty="")
    assert event.attributes == {
        "text": "x",
        "integer": "-10",
        "yes": "true",
        "no": "false",
        "uri": "//authority/path",
        "empty": "",
    }


@pytest.mark.parametrize("value", [1.5, 1.0, 1e3, 2**31, -(2**31) - 1, 10**400, {}, {"a": 1}, [], ["x"]])
def test_an_extension_that_is_no_string_integer_or_boolean_is_refused(value: Any) -> None:
    assert "ext" in refused_structured(ext=value)


@pytest.mark.parametrize("value", [2**31 - 1, -(2**31)])
def test_integers_of_32_bits_are_allowed(value: int) -> None:
    assert structured(ext=value).attributes == {"ext": str(value)}


@pytest.mark.parametrize("character", ["\0", "\n", "\x1f", "\x7f", "\x9f", "\ufdd0", "\uffff", "\U0010fffe"])
@pytest.mark.parametrize("name", ["id", "type", "subject", "ext"])
def test_characters_that_no_string_may_have_are_refused(name: str, character: str) -> None:
    assert "character" in refused_structured(**{name: f"x{character}"})


@pytest.mark.parametrize("half", ["\ud800", "\udfff"])
def test_half_of_a_surrogate_pair_is_refused(half: str) -> None:
    assert "surrogate" in refused_structured(subject=f"x{half}")


def test_all_other_characters_are_allowed() -> None:
    text = " ~\xa0äöü€日本😀\ufdcf\ufffd"
    assert structured(subject=text, id=text).id == text
    assert binary(subject="Euro%20%E2%82%AC%20%F0%9F%98%80").attributes == {"subject": "Euro € 😀"}


@pytest.mark.parametrize(
    "source",
    [
        "https://github.com/cloudevents/spec/pull/123",
        "/sensors/tn-1234567/alerts",
        "#fragment",
        "?query",
        "mailto:cncf-wg-serverless@lists.cncf.io",
        "urn:uuid:6e8bc430-9c3a-11d9-9669-0800200c9a66",
        "cloudevents/spec/pull/123",
        "1-555-123-4567",
        "default",
        "//authority/path",
        "http://user:pass@[2001:db8::1]:8080/p;q?a=b#c",
        "a%20b",
        "./a:b",
        "file:///etc",
        "x:",
    ],
)
def test_a_source_is_a_uri_reference(source: str) -> None:
    assert structured(source=source).source == source


@pytest.mark.parametrize(
    "source", ["", "a b", "ä", "a%2", "a%zz", "<x>", "a\\b", "1:b", "a_b:c", "http://[::1", "a#b#c", "a`"]
)
def test_a_source_that_is_no_uri_reference_is_refused(source: str) -> None:
    assert "source" in refused_structured(source=source)


def test_a_uri_that_is_made_to_be_hard_to_match_takes_no_time() -> None:
    refused_structured(source="/a" * 200_000 + " ")
    refused_structured(source="a:" * 200_000 + "\\")
    refused_structured(datacontenttype="a/b" + " ; ; " * 100_000 + ",")
    refused_binary(ext='"' + "\\" * 50_001)


@pytest.mark.parametrize(
    "time",
    [
        "2018-04-05T17:31:00Z",
        "2018-04-05T17:31:00.000000000Z",
        "2018-04-05t17:31:00z",
        "2018-04-05T18:31:00+01:00",
        "2018-04-05T16:31:00.5-23:59",
        "2016-12-31T23:59:60Z",
        "2020-02-29T00:00:00Z",
    ],
)
def test_a_time_is_one_by_rfc_3339(time: str) -> None:
    assert structured(time=time).attributes == {"time": time}
    assert binary(time=time).attributes == {"time": time}


@pytest.mark.parametrize(
    "time",
    [
        "lunchtime",
        "2018-04-05",
        "2018-04-05T18:31Z",
        "2018-04-05T18:31:00",
        "2018-04-05T18:31:00X",
        "2018-04-05T18:31:00+25:00",
        "2018-04-05T18:31:00+xx:00",
        "2018-04-05T18:31:00+05",
        "2018-04-05T18:31:00+0500",
        "2018-04-05 18:31:00Z",
        "2018-04-05T18:31:00.Z",
        "2018-04-05T24:00:00Z",
        "2018-04-05T23:60:00Z",
        "2018-04-05T23:00:61Z",
        "2018-13-05T18:31:00Z",
        "2019-02-29T00:00:00Z",
        "2018-4-5T18:31:00Z",
        "٢٠١٨-04-05T18:31:00Z",
        "2018-04-05T18:31:00Z\n",
    ],
)
def test_a_time_that_is_none_by_rfc_3339_is_refused(time: str) -> None:
    assert "time" in refused_structured(time=time)


@pytest.mark.parametrize(
    "value", ["xyz", "a/", "/b", "a/b/c", "a b/c", "text/plain;", "text/plain; a", "a/b,c/d", 'a/b;c="']
)
def test_a_data_content_type_that_is_no_media_type_is_refused(value: str) -> None:
    if value == "text/plain;":
        assert structured(datacontenttype=value).data.content_type == value
    else:
        assert "datacontenttype" in refused_structured(datacontenttype=value)


@pytest.mark.parametrize(
    ("value", "meaning"),
    [
        ("plain", "plain"),
        ("a%20b", "a b"),
        ("%e2%82%ac", "€"),
        ("%41", "A"),
        ("%2541", "%41"),
        ("100%25", "100%"),
        ('"a b"', "a b"),
        ('"a \\"b\\" \\\\"', 'a "b" \\'),
        ('"%41"', "A"),
        ('say "hi" there', 'say "hi" there'),
        ("(no comment)", "(no comment)"),
        ("", ""),
    ],
)
def test_a_header_is_unquoted_and_percent_decoded_once(value: str, meaning: str) -> None:
    assert binary(ext=value).attributes == {"ext": meaning}


@pytest.mark.parametrize(
    "value",
    [
        "%",
        "100%",
        "%4",
        "%zz",
        "%C0%A0",
        "%ED%A0%80",
        "%FF",
        "%E2%82",
        "%F4%90%80%80",
        "%00",
        "%0A",
        "%7F",
        "%EF%BF%BF",
        "ä",
        "\xff",
        "a\tb",
        '"open',
        '"a" b',
        '"a\\"',
        '"',
    ],
)
def test_a_header_that_is_not_encoded_as_the_binding_says_is_refused(value: str) -> None:
    assert "ext" in refused_binary(ext=value)


def test_a_repeated_attribute_header_is_refused() -> None:
    headers = [(f"ce-{name}", value) for name, value in MINIMAL.items()]
    assert "several times" in refused(400, [*headers, ("Ce-Id", "1")])


def test_the_header_for_the_data_content_type_is_the_one_of_http() -> None:
    assert "Content-Type" in refused_binary(datacontenttype="application/json")


def test_no_value_gets_into_what_a_problem_says() -> None:
    secret = "s3cret"
    for text in (
        refused_structured(time=secret),
        refused_structured(source=f"{secret} "),
        refused_structured(ext={secret: 1}),
        refused_structured(id=f"{secret}\0"),
        refused_structured(datacontenttype=secret),
        refused_binary(ext=f"{secret}%"),
    ):
        assert secret not in text


def test_a_long_name_is_cut_in_what_a_problem_says() -> None:
    assert len(refused_structured(**{"X" * 10_000: "x"})) < 200
    assert len(refused_binary(**{"x_" * 10_000: "x"})) < 200
