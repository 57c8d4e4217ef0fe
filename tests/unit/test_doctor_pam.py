"""What doctor says of /etc/pam.d: nothing of the three stacks of DESIGN, and each way around our lines by its name."""

from __future__ import annotations

import pytest

from starlingd.cli.doctor import pam, stacks
from starlingd.cli.pam.stack import MODULE, Mode, with_ours

COMMON = {
    "common-auth": (
        "auth [success=1 default=ignore] pam_unix.so nullok\nauth requisite pam_deny.so\nauth required pam_permit.so\n"
    ),
    "common-account": (
        "account [success=1 new_authtok_reqd=done default=ignore] pam_unix.so\naccount requisite pam_deny.so\n"
    ),
    "common-session": "session required pam_unix.so\n",
}
STOCK = (
    "@include common-auth\naccount required pam_nologin.so\n@include common-account\n"
    "session [success=ok ignore=ignore module_unknown=ignore default=bad] pam_selinux.so close\n"
    "session required pam_env.so user_readenv=1 \\\n  envfile=/etc/default/locale\n@include common-session\n"
)
SU = "auth sufficient pam_rootok.so\n@include common-auth\n@include common-account\n"


def files(sshd: str, **others: str) -> dict[str, str]:
    return {**COMMON, "su": SU, "sshd": sshd, **{name.replace("_", "-"): text for name, text in others.items()}}


def ids(texts: dict[str, str], setuid: tuple[str, ...] = ("su", "sudo")) -> list[str]:
    return [finding.id for finding in pam.check(texts, setuid)]


@pytest.mark.parametrize("mode", Mode)
def test_nothing_is_said_of_what_pam_enable_writes(mode: Mode) -> None:
    texts = files(with_ours(STOCK, mode))
    assert ids(texts) == []
    assert pam.mode_of(texts, "sshd") is mode


def test_without_our_lines_the_second_factor_is_said_to_be_off() -> None:
    assert ids(files(STOCK)) == ["pam.off"]


@pytest.mark.parametrize("mode", Mode)
def test_an_emergency_group_is_a_warning_for_each_line_and_no_error(mode: Mode) -> None:
    found = list(pam.check(files(with_ours(STOCK, mode, "wheel")), ()))
    assert {finding.id for finding in found} == {"pam.emergency-group"}
    assert {finding.severity for finding in found} == {"warning"}
    assert all("wheel" in finding.reason for finding in found)


KEY, PASSWORD = with_ours(STOCK, Mode.KEY), with_ours(STOCK, Mode.PASSWORD)
OURS = f"auth     requisite  {MODULE}"
FAULTS = {
    "sufficient before ours": (KEY.replace(OURS, f"auth sufficient pam_unix.so\n{OURS}"), "pam.passed-over"),
    "done before ours": (KEY.replace(OURS, f"auth [success=done default=bad] pam_x.so\n{OURS}"), "pam.passed-over"),
    "a jump over ours": (KEY.replace(OURS, f"auth [success=1 default=bad] pam_x.so\n{OURS}"), "pam.passed-over"),
    "ours sufficient": (KEY.replace(OURS, OURS.replace("requisite", "sufficient")), "pam.control"),
    "ours optional": (KEY.replace(OURS, OURS.replace("requisite", "optional")), "pam.control"),
    "ours ignored": (KEY.replace(OURS, OURS.replace("requisite", "[success=ok default=ignore]")), "pam.control"),
    "one result ignored": (
        KEY.replace(OURS, OURS.replace("requisite", "[success=ok auth_err=ignore default=die]")),
        "pam.control",
    ),
    "ours dashed": (KEY.replace(OURS, f"-{OURS}"), "pam.dash"),
    "no permit": (KEY.replace("auth     required   pam_permit.so\n", ""), "pam.permit"),
    "before in key mode": (KEY.replace(OURS, f"{OURS} first_factor=before"), "pam.first-factor"),
    "no before in password mode": (PASSWORD.replace(" first_factor=before", ""), "pam.first-factor"),
    "password in a substack": (
        PASSWORD.replace("@include common-auth", "auth substack common-auth"),
        "pam.first-factor-substack",
    ),
    "account not first": (f"account required pam_nologin.so\n{KEY}", "pam.account-first"),
    "account included first": (f"@include common-account\n{KEY}", "pam.account-first"),
    "session not first": (f"session required pam_env.so\n{KEY}", "pam.session-first"),
    "account missing": (KEY.replace(f"account  requisite  {MODULE}\n", ""), "pam.account-missing"),
    "session missing": (KEY.replace(f"session  requisite  {MODULE}\n", ""), "pam.session-missing"),
}


@pytest.mark.parametrize(("text", "expected"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_an_error_by_its_name(text: str, expected: str) -> None:
    assert text not in {KEY, PASSWORD}
    assert expected in {finding.id for finding in pam.check(files(text), ()) if finding.severity == "error"}


UNIX, DENY = "auth [success=1 default=ignore] pam_unix.so\n", "auth requisite pam_deny.so\n"
STOPPED = {
    "Debian": COMMON["common-auth"],
    "Debian with more": f"{COMMON['common-auth']}auth optional pam_cap.so\n",
    "two sources": f"auth [success=2 default=ignore] pam_unix.so\nauth [success=1 default=ignore] pam_sss.so\n{DENY}",
    "requisite": "auth requisite pam_unix.so\n",
    "faillock": (
        "auth requisite pam_faillock.so preauth\nauth [success=1 default=bad] pam_unix.so\n"
        "auth [default=die] pam_faillock.so authfail\n"
    ),
    "denied through an include": f"{UNIX}auth include no\n",
}
GOES_ON = {
    "required": "auth required pam_unix.so\n",
    "required, and denied without an end": f"{UNIX}auth required pam_deny.so\n",
    "optional": "auth optional pam_unix.so\n",
    "ignored while the directory is down": "auth [success=ok authinfo_unavail=ignore default=die] pam_ldap.so\n",
    "permitted by another": f"auth [success=2 default=ignore] pam_succeed_if.so user ingroup x\n{UNIX}{DENY}",
    "done after a refusal": "auth required pam_unix.so\nauth [success=done default=die] pam_permit.so\n",
    "perhaps missing": "-auth requisite pam_unix.so\n",
    "a substack": "auth substack common-password-check\n",
}


@pytest.mark.parametrize("auth", STOPPED.values(), ids=STOPPED)
def test_a_stack_that_a_wrong_password_ends_before_our_line_is_fine(auth: str) -> None:
    assert ids({**files(PASSWORD, no=DENY), "common-auth": auth}) == []


@pytest.mark.parametrize("auth", GOES_ON.values(), ids=GOES_ON)
def test_a_stack_that_goes_on_to_our_line_after_a_wrong_password_is_an_error(auth: str) -> None:
    texts = {**files(PASSWORD), "common-auth": auth, "common-password-check": "auth requisite pam_unix.so\n"}
    [found] = [finding for finding in pam.check(texts, ()) if finding.id == "pam.first-factor-goes-on"]
    assert found.severity == "error"
    assert "requisite pam_deny.so" in found.advice


@pytest.mark.parametrize("module", ["fprintd", "ccreds", "systemd_home"])
def test_another_first_factor_before_the_password_as_pam_auth_update_writes_it_is_none(module: str) -> None:
    auth = f"auth [success=2 default=ignore] pam_{module}.so\nauth [success=1 default=ignore] pam_unix.so nullok\n"
    texts = {**files(PASSWORD), "common-auth": f"{auth}auth requisite pam_deny.so\nauth required pam_permit.so\n"}
    assert "pam.first-factor-goes-on" not in ids(texts)


def test_in_key_mode_no_password_comes_before_our_line() -> None:
    assert "pam.first-factor-goes-on" not in ids({**files(KEY), "common-auth": GOES_ON["required"]})


def test_a_jump_that_lands_on_our_line_or_before_it_is_none() -> None:
    text = KEY.replace(OURS, f"auth [success=1 default=bad] pam_x.so\nauth required pam_y.so\n{OURS}")
    assert "pam.passed-over" not in ids(files(text))


def test_sufficient_is_found_through_an_include_and_harmless_in_a_substack() -> None:
    extra = "auth sufficient pam_x.so\n"
    for word, expected in (("include", True), ("substack", False)):
        texts = files(KEY.replace(OURS, f"auth {word} extra\n{OURS}"), extra=extra)
        assert ("pam.passed-over" in ids(texts)) is expected


@pytest.mark.parametrize("script", ["/usr/lib/pam-starling/entry.py", "/opt/other.py"])
def test_a_python_module_reached_from_a_setuid_program_is_an_error_through_any_include(script: str) -> None:
    line = f"auth required pam_python.so {script}\n"
    assert "pam.setuid" in ids(files(KEY, sudo=line))
    assert "pam.setuid" in ids(files(KEY, su="auth include deep\n", deep="@include deeper\n", deeper=line))
    assert {"pam.setuid", "pam.common"} <= set(ids({**files(KEY), "common-auth": line}))
    assert "pam.setuid" in ids(files(KEY, other=line))


def test_the_service_of_any_setuid_program_counts() -> None:
    texts = files(KEY, mytool=f"auth required {MODULE}\n")
    assert "pam.setuid" not in ids(texts)
    assert "pam.setuid" in ids(texts, ("mytool",))


def test_login_needs_a_password_first() -> None:
    assert "pam.login-mode" in ids(files(KEY, login=KEY))
    assert "pam.login-mode" not in ids(files(KEY, login=PASSWORD))


def test_files_that_include_one_another_end() -> None:
    texts = {"sshd": "@include a\n", "a": "@include a\n@include b\n", "b": "auth include a\n"}
    assert stacks.rules(texts, "sshd") == []


def test_the_deadline_is_that_of_our_lines() -> None:
    assert pam.deadline_of(files(KEY), "sshd", 100) == 100
    assert pam.deadline_of(files(KEY.replace(OURS, f"{OURS} deadline=130")), "sshd", 100) == 130
