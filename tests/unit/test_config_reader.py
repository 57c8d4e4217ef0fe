"""The table of sections: another section is data, named sections and older names included."""

from dataclasses import dataclass
from typing import Any

import pytest

from starlingd.config import KnownSecrets, ini, reader, values
from starlingd.config.problems import Notes
from starlingd.config.schema import Section, Values, key, rest
from starlingd.config.sections import DEFINITION


@dataclass(frozen=True, slots=True)
class ListForm:
    """A section that may occur many times."""

    allow: tuple[str, ...] = key(values.words, (), "who is allowed")
    token: str | None = key(values.line, None, "a secret", secret=True)


@dataclass(frozen=True, slots=True)
class CacheForm:
    """A section with an older name for a key, and any other keys."""

    reuse_limit: int = key(values.integer(0, 9), 0, "reuses", aliases=("conn_limit",))
    others: tuple[tuple[str, str], ...] = rest(values.line, "<name>", "anything")


LIST = Section("user_list", ListForm, "named lists", named=True)
CACHE = Section("memory_cache", CacheForm, "a cache", aliases=("memory-cache",))
QUESTION = Section("question", ListForm, "numbered lists", numbered=True)
TABLE = (LIST, CACHE)
NUMBERED = (QUESTION,)


def read(text: str, definition: tuple[Section[Any], ...] = TABLE) -> tuple[Values, Notes]:
    notes = Notes()
    secrets = KnownSecrets({"user_list ops.token": "t", "memory-cache.x": "y"})
    return reader.read(ini.parse(text), definition, secrets, notes), notes


def test_a_named_section_may_occur_many_times() -> None:
    found, notes = read("[user_list ops]\nallow = a, b\ntoken = $\n[user_list two words]\nallow = c\n")
    assert notes.problems == []
    assert found.each(LIST) == {"ops": ListForm(("a", "b"), "t"), "two words": ListForm(("c",))}


def test_a_named_section_needs_a_name_and_has_each_only_once() -> None:
    _, notes = read("[user_list]\nallow=a\n[user_list  ]\nallow=a\n[user_list x]\nallow=a\n[user_list  x]\nallow=a\n")
    assert [(problem.section, problem.message) for problem in notes.problems] == [
        ("user_list", "is unknown: did you mean [user_list NAME]?"),
        ("user_list  ", "is unknown: did you mean [user_list NAME]?"),
        ("user_list  x", "is another spelling of [user_list x]: keep one of the two"),
    ]


def test_a_numbered_section_has_its_number_in_its_name() -> None:
    found, notes = read("[question_1]\nallow = a\n[question_12]\nallow = b\n", NUMBERED)
    assert notes.problems == []
    assert found.each(QUESTION) == {"1": ListForm(("a",)), "12": ListForm(("b",))}
    _, notes = read("".join(f"[question{n}]\nallow = a\n" for n in ("", "_", "_01", "_a", "_1 ", "_-1")), NUMBERED)
    assert all("did you mean [question_N]?" in problem.message for problem in notes.problems)
    assert len(notes.problems) == 6


def test_a_section_is_also_recognised_by_the_first_word_of_its_name() -> None:
    _, notes = read("[whitelist]\nallow = a\n", (Section("whitelist source=user_list", ListForm, "a list"),))
    assert [problem.message for problem in notes.problems] == [
        "is unknown: did you mean [whitelist source=user_list]?",
    ]


def test_a_named_sections_problems_and_secrets_go_by_one_spelling() -> None:
    found, notes = read("[user_list   ops]\ntoken = $\nallow =\n")
    assert found.each(LIST) == {"ops": ListForm(token="t")}
    assert [(problem.section, problem.line) for problem in notes.problems] == [("user_list ops", 3)]


def test_problems_of_named_sections_are_kept_apart() -> None:
    _, notes = read("[user_list a]\nallow =\n[user_list b]\nallow =\nallo = x\n")
    assert [(problem.section, problem.key, problem.line) for problem in notes.problems] == [
        ("user_list a", "allow", 2),
        ("user_list b", "allow", 4),
        ("user_list b", "allo", 5),
    ]


def test_an_older_name_of_a_key_works_with_a_warning() -> None:
    found, notes = read("[memory-cache]\nConn_Limit = 3\n")
    assert found[CACHE].reuse_limit == 3
    assert notes.problems == []
    assert [(warning.key, warning.message) for warning in notes.warnings] == [
        ("conn_limit", "is called reuse_limit here: rename it")
    ]


@pytest.mark.parametrize("text", ["conn_limit = 3\nreuse_limit = 4\n", "reuse_limit = 3\nconn_limit = 4\n"])
def test_both_names_of_a_key_are_one_too_many(text: str) -> None:
    found, notes = read(f"[memory_cache]\n{text}")
    assert found[CACHE].reuse_limit == 3
    assert [problem.message[:15] for problem in notes.problems] == ["is another name"]


def test_a_refused_value_under_an_older_name_is_told_at_its_line() -> None:
    _, notes = read("[memory_cache]\nx = 1\nconn_limit = many\n")
    assert [(problem.key, problem.line) for problem in notes.problems] == [("reuse_limit", 3)]


def test_other_keys_of_an_open_section_are_kept_by_name() -> None:
    found, notes = read("[memory-cache]\nothers = 1\nX = $\nreuse_limit = 2\n")
    assert notes.problems == []
    assert found[CACHE] == CacheForm(2, (("others", "1"), ("x", "y")))


def test_every_defined_section_has_only_keys_that_can_be_written() -> None:
    names = [name for section in DEFINITION for name in (section.name, *section.aliases)]
    assert len(names) == len(set(names))
    for section in DEFINITION:
        written = [name for each in section.definitions() for name in (each.name, *each.aliases)]
        assert len(written) == len(set(written))
        assert all(name == name.lower() and ini.split_option(f"{name} = x") == (name, "x") for name in written)
        assert all(each.meaning for each in section.definitions())
