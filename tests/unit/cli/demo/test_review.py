"""What a review finds."""

import pytest

from hivewire.cli.demo.review import KINDS, MAX_FUNCTION_LINES, MAX_PARAMETERS, count_words, review, words_of


def kinds(source: str) -> list[str]:
    found = [finding.kind for finding in review(source).findings]
    assert set(found) <= set(KINDS)
    return found


def test_lines_functions_and_names_are_counted() -> None:
    reviewed = review('class A:\n    """A."""\n\n    def _f(self):\n        pass\n\n\nasync def _g():\n    pass\n')
    assert (reviewed.lines, reviewed.functions) == (10, 2)
    assert reviewed.names == {"A": 1, "_f": 4, "_g": 8}
    assert reviewed.findings == []


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("def f():\n", "syntax"),
        ("x = '\x00'\n", "syntax"),
        ("(" * 10_000, "syntax"),
        ("def _f():\n" + "    pass\n" * MAX_FUNCTION_LINES, "long"),
        (f"def _f({', '.join(f'a{number}' for number in range(MAX_PARAMETERS + 1))}): ...\n", "parameters"),
        ("def f(): ...\n", "docstring"),
        ("class A: ...\n", "docstring"),
        ("def _f(a=[]): ...\n", "default"),
        ("def _f(*, a={}): ...\n", "default"),
        ("try:\n    pass\nexcept:\n    pass\n", "except"),
        ("try:\n    pass\nexcept Exception as error:\n    print(error)\n", "except"),
        ("x = 1  # TODO: more\n", "todo"),
        ("# FIXME\n", "todo"),
    ],
)
def test_a_fault_is_found(source: str, kind: str) -> None:
    assert kinds(source) == [kind]


@pytest.mark.parametrize(
    "source",
    [
        "",
        "def _f():\n" + "    pass\n" * (MAX_FUNCTION_LINES - 1),
        "def _f(a=()): ...\n",
        "try:\n    pass\nexcept Exception:\n    raise\n",
        "try:\n    pass\nexcept ValueError:\n    pass\n",
        "x = 'TODO'\n",
        "def _f():\n    def inner(): ...\n",
        "x = '\\d'\n",
    ],
)
def test_what_is_fine_is_left_alone(source: str) -> None:
    assert kinds(source) == []


def test_findings_tell_where_in_the_order_of_lines() -> None:
    findings = review("# TODO one\ndef f(): ...\n# TODO two\n").findings
    assert [(finding.line, finding.text) for finding in findings] == [
        (1, "TODO one"),
        (2, "f has no docstring"),
        (3, "TODO two"),
    ]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("read_data", ["read", "data"]),
        ("readHTTPHeader2", ["read", "http", "header"]),
        ("__init__", ["init"]),
        ("_", []),
        ("größe", ["gr", "öß", "e"]),
    ],
)
def test_names_are_split_into_words(name: str, words: list[str]) -> None:
    assert words_of(name) == words


def test_words_are_counted_wherever_a_name_stands() -> None:
    counted = count_words(
        "from other.place import thing as it\n\ndef read(data, key=1):\n    return thing.read(data=data)\n"
    )
    assert counted == {
        "other": 1, "place": 1, "thing": 2, "it": 1, "read": 2, "data": 3, "key": 1,
    }  # fmt: skip


def test_a_source_that_cannot_be_parsed_has_no_words() -> None:
    assert count_words("def (") == {}
