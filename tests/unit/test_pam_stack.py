"""The text of a PAM service with our lines: exactly DESIGN's blocks, and not a byte else changed."""

from pathlib import Path

import pytest

from starlingd.cli.pam import stack
from starlingd.cli.pam.stack import Mode, Unfit, with_ours, without_ours

RECIPES = Path(__file__).resolve().parents[2] / "etc/recipes"
STOCK = (
    "# sshd\n@include common-auth\naccount required pam_nologin.so\n@include common-account\n"
    "session optional pam_env.so\n"
)


def code(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def recipe(mode: Mode) -> set[str]:
    return set(code((RECIPES / f"{mode.value}.pam").read_text(encoding="ascii")))


@pytest.mark.parametrize("mode", Mode)
def test_the_lines_that_are_added_are_those_of_the_recipe(mode: Mode) -> None:
    assert set(code(with_ours(STOCK, mode))) - set(code(STOCK)) == recipe(mode)


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("group", [None, "wheel"])
@pytest.mark.parametrize("text", [STOCK, STOCK.rstrip("\n"), STOCK.replace("common-auth", "common-auth # first")])
def test_taking_ours_away_gives_back_every_byte(mode: Mode, group: str | None, text: str) -> None:
    assert without_ours(with_ours(text, mode, group)) == text


def test_in_key_mode_ours_take_the_place_of_the_first_factor() -> None:
    auth = [line for line in code(with_ours(STOCK, Mode.KEY)) if line.startswith(("auth", "@include common-auth"))]
    assert auth == [f"auth     requisite  {stack.MODULE}", "auth     required   pam_permit.so"]


def test_in_password_mode_ours_come_directly_after_the_first_factor() -> None:
    lines = code(with_ours(STOCK, Mode.PASSWORD))
    at = lines.index("@include common-auth")
    assert lines[at + 1] == f"auth     required   {stack.MODULE} first_factor=before"


def test_in_key_push_mode_there_is_no_auth_line_of_ours() -> None:
    assert not [line for line in code(with_ours(STOCK, Mode.KEY_PUSH)) if line.startswith("auth")]


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("kind", ["account", "session"])
def test_ours_is_the_first_line_of_its_kind_and_before_every_include(mode: Mode, kind: str) -> None:
    lines = [line for line in code(with_ours(STOCK, mode)) if line.startswith((kind, "@include"))]
    assert lines[0] == f"{kind}  requisite  {stack.MODULE}"


@pytest.mark.parametrize("mode", Mode)
def test_the_emergency_group_passes_over_exactly_our_line(mode: Mode) -> None:
    lines = code(with_ours(STOCK, mode, "wheel"))
    jumps = [number for number, line in enumerate(lines) if "success=1" in line]
    assert [lines[number].split()[0] for number in jumps] == [
        lines[number + 1].split()[0] for number in jumps if stack.MODULE in lines[number + 1]
    ]
    assert len(jumps) == sum(stack.MODULE in line for line in lines)
    assert stack.emergency_group(with_ours(STOCK, mode, "wheel")) == "wheel"


def test_without_an_emergency_group_nothing_stands_before_ours() -> None:
    assert stack.emergency_group(with_ours(STOCK, Mode.KEY)) is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("account required pam_unix.so\n", "no lines"),
        (STOCK + "@include common-auth\n", "2 lines"),
        (f"account requisite {stack.MODULE}\n" + STOCK, "already"),
        ("auth sufficient pam_rhosts.so\n" + STOCK, "line 1 may pass over"),
        ("auth [success=2 default=ignore] pam_x.so\n" + STOCK, "line 1 may pass over"),
        ("-auth [success=done default=ignore] pam_x.so\n" + STOCK, "line 1 may pass over"),
        ("auth required \\\n" + STOCK, "line 1 goes on"),
    ],
)
def test_a_text_where_ours_would_not_do_what_they_are_for_is_refused(text: str, why: str) -> None:
    with pytest.raises(Unfit, match=why):
        with_ours(text, Mode.KEY)


@pytest.mark.parametrize("group", ["", "a b", "x\nauth sufficient pam_permit.so", "-x", "a#b"])
def test_what_is_no_group_is_refused(group: str) -> None:
    with pytest.raises(Unfit, match="not the name of a group"):
        with_ours(STOCK, Mode.KEY, group)


@pytest.mark.parametrize("text", [stack.BEGIN + "\n", stack.END + "\n", f"{stack.BEGIN}\n{stack.BEGIN}\n{stack.END}\n"])
def test_marks_that_do_not_match_are_left_to_people(text: str) -> None:
    with pytest.raises(Unfit, match="marks"):
        without_ours(text)


def test_what_others_wrote_since_stays() -> None:
    changed = with_ours(STOCK, Mode.KEY).replace("pam_nologin.so\n", "pam_nologin.so\naccount required pam_access.so\n")
    assert without_ours(changed) == STOCK.replace(
        "pam_nologin.so\n", "pam_nologin.so\naccount required pam_access.so\n"
    )


def test_a_comment_that_names_the_module_is_not_a_use() -> None:
    assert not stack.uses_module(f"# {stack.MODULE}\n")
    assert stack.uses_module(with_ours(STOCK, Mode.KEY_PUSH))
