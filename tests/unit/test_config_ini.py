"""The line format: what configparser reads is read alike, and what it would swallow or stop at is a problem."""

import configparser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starlingd.config import ini


def values(text: str) -> dict[str, dict[str, str]]:
    document = ini.parse(text)
    assert document.problems == []
    return {name: {key: entry.value for key, entry in keys.items()} for name, keys in document.sections.items()}


def problems(text: str) -> list[str]:
    return [str(problem) for problem in ini.parse(text).problems]


def test_both_delimiters_comments_and_continuations_are_read() -> None:
    text = "# a\n[usermapping source=explicit]\nAlice = 1\nbob: 2\n; b\n[auth]\nprompt = one\n  two\n\n  # c\n  three\n"
    assert values(text) == {
        "usermapping source=explicit": {"alice": "1", "bob": "2"},
        "auth": {"prompt": "one\ntwo\n\nthree"},
    }


def test_the_first_delimiter_ends_the_key() -> None:
    assert values("[a]\nservice_url: https://x=y\nother = a:b\n") == {
        "a": {"service_url": "https://x=y", "other": "a:b"}
    }


def test_percent_signs_are_literal() -> None:
    assert values("[a]\nk = 50% of %(x)s\n") == {"a": {"k": "50% of %(x)s"}}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_end_of_line_and_a_byte_order_mark_are_understood(end: str) -> None:
    assert values("\ufeff" + end.join(["[a]", "k = 1", "j = 2"])) == {"a": {"k": "1", "j": "2"}}


def test_section_names_are_literal_and_keys_are_not_case_sensitive() -> None:
    assert values("[Auth]\nPROMPT = x\n[ auth ]\n") == {"Auth": {"prompt": "x"}, " auth ": {}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[a]\nk=1\nK=2\n", "line 3: [a] k: is here a second time: keep this line or line 2, not both"),
        ("[a]\n[b]\n[a]\n", "line 3: [a] is here a second time: put its keys under the first one, line 1"),
        ("k = 1\n", "line 1: k: stands before the first section"),
        ("[a]\njunk\n", "line 2: [a] this is no section, key or comment"),
        ("[a]\n= 1\n", "line 2: [a] this is no section, key or comment"),
        ("[a\n", "line 1: [a] a section's line is its name in brackets"),
        ("[]\nk = 1\n", "line 1: a section's line is its name in brackets"),
        ("[a] # b\n", "line 1: [a] nothing may follow the ]"),
    ],
)
def test_what_is_no_line_of_the_format_is_a_problem_with_its_place(text: str, said: str) -> None:
    found = problems(text)
    assert len(found) == 1
    assert found[0].startswith(said)


def test_all_problems_are_found_at_once() -> None:
    assert len(problems("k=1\n[a]\njunk\nk=1\nk=2\n[a]\nk=3\n")) == 5


def test_a_problem_never_repeats_the_line_it_is_about() -> None:
    assert "s3cret" not in "".join(problems("s3cret\n[a]\ns3cret\nk = s3cret\nk = s3cret\n"))


NAMES = st.sampled_from(["a", "B", "c d", "x=y", "[q]"])
VALUES = st.sampled_from(["", "1", "x # y", "a = b", "c: d", "%", "$", "é"])
LINES = st.one_of(
    st.builds(lambda name: f"[{name}]", NAMES),
    st.builds(lambda pad, key, sep, value: f"{pad}{key}{sep}{value}", st.sampled_from(["", " ", "\t", "    "]), NAMES,
              st.sampled_from(["=", ":", " = ", " : "]), VALUES),
    st.builds(lambda pad, value: pad + value, st.sampled_from(["", " ", "   "]), VALUES),
    st.sampled_from(["", "   ", "# x", "  ; y", "junk", "[", "]"]),
)  # fmt: skip


@given(st.lists(LINES, max_size=15))
def test_what_is_no_problem_here_is_read_as_configparser_reads_it(lines: list[str]) -> None:
    text = "\n".join(lines)
    document = ini.parse(text)
    parser = configparser.RawConfigParser(default_section="\0")
    try:
        parser.read_string(text)
    except configparser.Error:
        assert document.problems
        return
    if not document.problems:
        read = {name: {key: entry.value for key, entry in keys.items()} for name, keys in document.sections.items()}
        assert read == {name: dict(parser[name]) for name in parser.sections()}


@given(st.text())
def test_any_text_is_read_to_its_end(text: str) -> None:
    document = ini.parse(text)
    assert set(document.sections) == set(document.lines)
