"""Who is asked and who is not, through real sshd: exemptions, mapping, questions, lock-outs, and what explain says."""

import json

import pytest

from tests.sandbox.running import Sandbox
from tests.system.bastion import Bastion

pytestmark = pytest.mark.system

LIST = {"whitelist source=user_list": "name = robots", "user_list robots": "allow = no_user\nexcept = approves"}


def reasons(bastion: Bastion) -> list[str]:
    return [event["STARLING_REASON"] for event in bastion.audit()]


def explain(bastion: Bastion, *arguments: str) -> dict[str, object]:
    explained: dict[str, object] = json.loads(bastion.run("starlingctl", "explain", "--json", *arguments))
    return explained


def a_wrong_code(sandbox: Sandbox, user: str) -> str:
    return "000000" if sandbox.code_for(user) != "000000" else "111111"


def test_an_exempt_user_is_let_in_unasked_and_others_are_asked(bastion: Bastion) -> None:
    bastion.configure("key", **LIST)
    assert "in as approves" in bastion.log_in("approves").text
    assert "in as denies" not in bastion.log_in("denies", "").text
    assert reasons(bastion)[:2] == ["exempt_user_list", "push_denied"]
    assert bastion.audit()[0]["STARLING_OUTCOME"] == "ignore"
    assert bastion.await_audit("session_open")[0]["STARLING_USER"] == "approves"


def test_an_exempt_login_by_key_alone_passes_the_account_hook(bastion: Bastion) -> None:
    bastion.configure("key-push", account="without_second_factor = deny", **LIST)
    assert "in as approves" in bastion.log_in("approves").text
    assert "in as manual" not in bastion.log_in("manual").text
    assert reasons(bastion) == ["exempt_user_list", "no_second_factor"]


def test_in_password_mode_an_exempt_user_still_needs_the_password(bastion: Bastion) -> None:
    bastion.configure("password", **LIST)
    bastion.shell("echo approves:secret | chpasswd")
    wrong = bastion.ssh("approves", "-o", "NumberOfPasswordPrompts=1", key=False)
    wrong.await_prompt()
    wrong.type("not it")
    assert wrong.await_end() != 0
    right = bastion.ssh("approves", key=False)
    right.await_prompt()
    right.type("secret")
    assert right.await_end() == 0
    assert "in as approves" in right.text


def test_a_network_exempts_and_explain_says_so_for_any_address(bastion: Bastion) -> None:
    network = {"whitelist source=network": f"allow = no_user\nexcept = 2001:db8::/32, {bastion.engine.gateway}/32"}
    bastion.configure("key", **network)
    assert "in as manual" in bastion.log_in("manual").text
    assert reasons(bastion) == ["exempt_network"]
    assert explain(bastion, "manual", "--from", bastion.engine.gateway)["reason"] == "exempt_network"
    assert explain(bastion, "manual", "--from", f"::ffff:{bastion.engine.gateway}")["outcome"] == "exempt"
    assert explain(bastion, "manual", "--from", "2001:db8::7")["outcome"] == "exempt"
    assert explain(bastion, "manual", "--from", "203.0.113.9")["outcome"] == "second_factor"


def test_break_glass_lets_in_loudly_even_root(bastion: Bastion) -> None:
    bastion.configure("key", sshd="PermitRootLogin yes", **{"whitelist source=user_list": "break_glass = root, manual"})
    assert "in as root" in bastion.log_in("root").text
    assert "in as manual" in bastion.log_in("manual").text
    loud = bastion.await_audit("break_glass", 2)
    assert [event["STARLING_USER"] for event in loud] == ["root", "manual"]
    assert {event["PRIORITY"] for event in loud} == {"4"}


def test_explain_names_the_rule_of_each_step_and_changes_nothing(bastion: Bastion, sandbox: Sandbox) -> None:
    bastion.configure("key", **LIST, authentication_cache="reuse_limit = 3\nhard_timeout = 1h\nsoft_timeout = 1h")
    asked = explain(bastion, "manual", "--from", bastion.engine.gateway)
    assert asked["outcome"] == "second_factor"
    assert asked["identity"] == sandbox.users["manual"].id
    steps = {step["step"]: step["rule"] for step in asked["steps"]}  # type: ignore[attr-defined]
    assert steps["user_list"] == "user_list robots"
    assert steps["mapping"] == "usermapping source=explicit"
    for name, reason in (("nobody-there", "unknown_user"), ("root", "root_not_permitted")):
        assert explain(bastion, name)["reason"] == reason
    printed = bastion.run("starlingctl", "explain", "approves")
    assert "approves would be let in without a second factor (exempt_user_list)" in printed
    assert not bastion.audit()
    assert not sandbox.log()


def test_five_wrong_codes_lock_the_user_at_that_address_whatever_comes_next(bastion: Bastion, sandbox: Sandbox) -> None:
    wrong = a_wrong_code(sandbox, "manual")
    bastion.log_in("manual", wrong, wrong, wrong)
    bastion.log_in("manual", wrong, wrong, sandbox.code_for("manual"))
    before = len(sandbox.log())
    locked = bastion.log_in("manual", sandbox.code_for("manual"))
    assert "Too many attempts; try again later" in locked.text
    assert "in as manual" not in bastion.log_in("manual", "").text
    assert len(sandbox.log()) == before, "a locked user's code or push reached the service"
    assert reasons(bastion)[-1] == "too_many_attempts"
    assert "in as approves" in bastion.log_in("approves", "").text
    bastion.shell("systemctl restart starlingd.service")
    assert "Too many attempts" in bastion.log_in("manual", sandbox.code_for("manual")).text
    assert explain(bastion, "manual", "--from", bastion.engine.gateway)["reason"] == "too_many_attempts"
    assert explain(bastion, "manual", "--from", "203.0.113.9")["outcome"] == "second_factor"
    assert "unlocked" in bastion.run("starlingctl", "unlock", "manual")
    assert "in as manual" in bastion.log_in("manual", sandbox.code_for("manual")).text
    assert bastion.await_audit("unlock")[0]["STARLING_USER"] == "manual"


def test_questions_are_asked_after_success_and_their_answers_kept(bastion: Bastion) -> None:
    questions = {
        "question_1": "prompt = Ticket (password: )\nkey = ticket\ndisable_echo = no\npattern = [A-Z]+-[0-9]+\n"
        "export = yes",
        "question_2": "prompt = PIN password:\nkey = pin",
    }
    bastion.configure("key", **LIST, **questions)
    terminal = bastion.ssh("approves", remote="echo ticket is $PAM_STARLING_ANSWER_TICKET")
    terminal.await_text("Ticket (password: )")
    terminal.type("seven")
    terminal.await_text("That is not an answer this question takes")
    terminal.type("OPS-42")
    terminal.await_text("PIN password:")
    terminal.type("1234")
    assert terminal.await_end() == 0
    assert "ticket is OPS-42" in terminal.text
    [event] = bastion.audit()
    assert event["STARLING_ANSWER_TICKET"] == "OPS-42"
    assert "STARLING_ANSWER_PIN" not in event


def test_with_the_service_gone_safe_lets_in_those_it_names_and_says_so(bastion: Bastion) -> None:
    sections = {"auth": "fail_mode = safe\nfail_open_users = approves\npermit_root = yes"}
    bastion.configure("key", sshd="PermitRootLogin yes", **sections)
    bastion.shell(
        "sed -i -E 's/^(service|token)_url.*/\\1_url = https:\\/\\/127.0.0.1:9/' /etc/pam-starling/starling.conf "
        "&& starlingctl reload"
    )
    assert "in as approves" in bastion.log_in("approves", "").text
    denied = bastion.log_in("manual", "", options=("-o", "NumberOfPasswordPrompts=1"))
    assert "in as manual" not in denied.text
    assert "The second-factor service cannot be reached" in denied.text
    assert "in as root" not in bastion.log_in("root", "", options=("-o", "NumberOfPasswordPrompts=1")).text
    [loud] = bastion.await_audit("fail_open")
    assert (loud["STARLING_USER"], loud["PRIORITY"]) == ("approves", "4")


def test_a_reload_with_a_bad_file_changes_nothing_and_says_why(bastion: Bastion) -> None:
    bastion.shell("printf '[auth]\\nno_such_key = 1\\n' >> /etc/pam-starling/starling.conf")
    refused = bastion.shell("starlingctl reload 2>&1; echo status $?", check=False)
    assert "no_such_key" in refused
    assert "status 1" in refused
    assert "in as approves" in bastion.log_in("approves", "").text
    bastion.shell("systemctl kill -s HUP starlingd.service")
    events = bastion.await_audit("reload", 2)
    assert {event["STARLING_OUTCOME"] for event in events} == {"deny"}
    bastion.write_configuration("timeout = 33")
    assert "push_timeout" in bastion.run("starlingctl", "reload")


def test_while_only_observed_nobody_is_asked_and_the_log_says_what_would_have_been(bastion: Bastion) -> None:
    bastion.configure("key", auth="enforce = observe until 2099-12-31", **LIST)
    assert "in as approves" in bastion.log_in("approves").text
    assert "in as denies" in bastion.log_in("denies").text
    bastion.await_audit("session_open", 2)
    events = bastion.audit()
    assert {(event["STARLING_REASON"], event["STARLING_MODE"]) for event in events} == {("observed", "observe")}
    assert events[0]["STARLING_EVIDENCE"] == "would=exempt exempt_user_list"
    assert events[1]["STARLING_EVIDENCE"].startswith("would=second_factor ")
    bastion.configure("key", auth="enforce = observe until 2020-01-01", **LIST)
    assert "in as denies" not in bastion.log_in("denies", "").text
