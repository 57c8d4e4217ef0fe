"""A configuration's text: frozen Settings when all of it is right, else every problem at once, and never a guess."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import trustme
from hypothesis import assume, given
from hypothesis import strategies as st

from starlingd import config
from starlingd.config import ConfigError, KnownSecrets, Problem, Settings
from starlingd.config.schema import Key, Section
from starlingd.config.sections import DEFINITION
from starlingd.config.values import Unfit
from starlingd.core.rules import NUMBERED_PROMPT, VENDOR_PROMPT, Rules, WithoutSecondFactor

NONE = KnownSecrets({})
KNOWN = KnownSecrets({"starling.credential": "kept-id:kept-secret", "https-proxy.password": "p w", "auth.prompt": "Hi"})
MINIMAL = "[starling]\ncredential = id:s3cret\n"
CA = trustme.CA().cert_pem.bytes()


def load(text: str) -> Settings:
    return config.load(text, KNOWN, lambda _: CA)


def refusals(text: str) -> dict[tuple[str, str], str]:
    """Give every problem of a text, by section and key."""
    with pytest.raises(ConfigError) as refused:
        load(text)
    found = {(problem.section, problem.key): problem.message for problem in refused.value.problems}
    assert len(found) == len(refused.value.problems)
    return found


def warnings(text: str) -> dict[tuple[str, str], str]:
    return {(warning.section, warning.key): warning.message for warning in load(text).warnings}


def test_a_credential_alone_is_a_whole_configuration() -> None:
    settings = load(MINIMAL)
    assert settings.starling.client_id == "id"
    assert settings.starling.client_secret.reveal() == "s3cret"
    assert settings.starling.service_url == "https://2faclient.cloud.oneidentity.com"
    assert settings.starling.token_url == "https://sts.cloud.oneidentity.com"
    assert settings.starling.ca_file is None
    assert settings.starling.http_timeout == 10.0
    assert settings.proxy is None
    assert settings.log_level == "info"
    assert settings.rules == Rules()
    assert settings.warnings == ()


def test_every_key_reaches_its_place() -> None:
    settings = load("""
[starling]
credential = $
environment = Staging
ca_file = /etc/pam-starling/ca.pem
http_timeout = 2.5
timeout: 1.5m
rest_poll_interval = 3
[auth]
provider = Starling
prompt = Code ({number}) or {enter}?
disable_echo = yes
interactive_protocols = RDP, ssh, telnet, login
max_attempts = 5
permit_root = on
push_message = {user} on {gateway}
push_limit = 4
push_window = 1h
[account]
without_second_factor = PUSH
push_timeout = 30
[usermapping source=explicit]
Alice = 5551234
bob =
[https-proxy]
server = proxy.example.org
port = 8080
username = us:er
password = $
[logging]
log_level = Warning
[credential_store]
name = store
""")
    assert settings.starling.client_id == "kept-id"
    assert settings.starling.service_url == "https://2faclient-staging.cloud.oneidentity.com"
    assert settings.starling.token_url == "https://sts-staging.cloud.oneidentity.com"
    assert settings.starling.ca_file == Path("/etc/pam-starling/ca.pem")
    assert settings.starling.http_timeout == 2.5
    assert settings.proxy == "http://us%3Aer:p%20w@proxy.example.org:8080"
    assert settings.log_level == "warning"
    assert settings.rules == Rules(
        prompt="Code ({number}) or {enter}?",
        disable_echo=True,
        interactive_services=frozenset({"sshd", "login"}),
        max_attempts=5,
        permit_root=True,
        push_message="{user} on {gateway}",
        push_number=True,
        push_timeout=90,
        push_limit=4,
        push_window=3600,
        poll_interval=3,
        without_second_factor=WithoutSecondFactor.PUSH,
        account_push_timeout=30,
        explicit_mapping={"alice": "5551234"},
    )


def test_settings_cannot_be_changed_and_show_no_secret() -> None:
    settings = load(MINIMAL + "[https_proxy]\nserver=p\nusername=u\npassword=h1dden\n")
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.proxy = None  # type: ignore[misc]
    assert "s3cret" not in repr(settings)
    assert "h1dden" not in repr(settings)
    assert settings.proxy == "http://u:h1dden@p:3128"


def test_a_missing_credential_is_an_error_that_names_what_to_write() -> None:
    for text in ("", "[starling]\n", "[starling]\ntimeout = 30\n"):
        (message,) = refusals(text).values()
        assert "credential = $" in message
        assert "/etc/pam-starling/credentials/starling.credential" in message


def test_every_problem_is_reported_at_once_in_the_order_of_the_file() -> None:
    with pytest.raises(ConfigError) as refused:
        load("""
junk
[starling]
timeut = 5
service_url = http://x
[DEFAULT]
prompt = hi
[Auth]
prompt = hi
[auth]
prompt =
max_attempts = 0
max_attempts = 3
permit_root = maybe
server = x
[whitelist source=user_list]
name = x
[logging]
log_level = noisy
""")
    assert [(problem.line, problem.section, problem.key) for problem in refused.value.problems] == [
        (2, "", ""),
        (3, "starling", "credential"),
        (4, "starling", "timeut"),
        (5, "starling", "service_url"),
        (7, "DEFAULT", "prompt"),
        (8, "Auth", ""),
        (11, "auth", "prompt"),
        (12, "auth", "max_attempts"),
        (13, "auth", "max_attempts"),
        (14, "auth", "permit_root"),
        (15, "auth", "server"),
        (17, "whitelist source=user_list", "name"),
        (19, "logging", "log_level"),
    ]
    assert str(refused.value).count("; ") == len(refused.value.problems) - 1


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("[auth]\npromt = x\n", ("auth", "promt"), "did you mean prompt?"),
        ("[auth]\nPush-Limit = 1\n", ("auth", "push-limit"), "did you mean push_limit?"),
        ("[auth]\nqqq = 1\n", ("auth", "qqq"), "known here are provider, prompt"),
        ("[auth]\nlog_level = info\n", ("auth", "log_level"), "it belongs in [logging]"),
        ("[AUTH]\nprompt = x\n", ("AUTH", ""), "did you mean [auth]?"),
        ("[usermapping source = explicit]\na = 1\n", ("usermapping source = explicit", ""), "[usermapping source=exp"),
        ("[zzz]\na = 1\n", ("zzz", ""), "known are [starling], [auth]"),
        ("[DEFAULT]\ntimeout = 5\n", ("DEFAULT", "timeout"), "write this key in [starling]"),
        ("[DEFAULT]\nqqq = 5\n", ("DEFAULT", "qqq"), "the section it is for"),
        (
            "[https_proxy]\nserver=a\n[https-proxy]\nserver=b\n",
            ("https-proxy", ""),
            "another spelling of [https_proxy]",
        ),
        ("[https_proxy]\nport = 8080\n", ("https_proxy", "server"), "is missing"),
        ("[https-proxy]\nserver=a\npassword=b\n", ("https_proxy", "username"), "is missing"),
        ("[https_proxy]\nserver = http://a\n", ("https_proxy", "server"), "without scheme"),
        ("[auth]\nprompt =\n", ("auth", "prompt"), "must not be empty"),
        ("[auth]\nprompt = a\x1b[2Jb\n", ("auth", "prompt"), "control character"),
        ("[auth]\nprompt = a\0b\n", ("auth", "prompt"), "control character"),
        ("[auth]\nprovider = duo\n", ("auth", "provider"), "must be starling or totp"),
        ("[auth]\nprovider = totp\n", ("totp", "key"), "is missing"),
        ("[auth]\nfallback = totp\n", ("totp", "key"), "is missing"),
        ("[auth]\nfallback = push\n", ("auth", "fallback"), "must be totp or recovery"),
        ("[totp]\nkey = c2hvcnQ=\n", ("totp", "key"), "32 random bytes"),
        ("[totp]\nkey = %%%\n", ("totp", "key"), "32 random bytes"),
        ("[totp]\ndigits = 7\n", ("totp", "digits"), "must be 6 or 8"),
        ("[totp]\nstep = 31\n", ("totp", "step"), "must be 30 or 60"),
        ("[totp]\nwindow = 11\n", ("totp", "window"), "from 0 to 10"),
        ("[auth]\npush_limit = 0\n", ("auth", "push_limit"), "from 1"),
        ("[auth]\npush_limit = -1\n", ("auth", "push_limit"), "from 1"),
        ("[auth]\npush_window = -5m\n", ("auth", "push_window"), "must not be negative"),
        ("[auth]\npush_number = no\nprompt = {number}\n", ("auth", "prompt"), "push_number = no"),
        ("[auth]\npush_number = no\npush_message = {number}\n", ("auth", "push_message"), "push_number = no"),
        ("[auth]\npush_message = {usr}\n", ("auth", "push_message"), "did you mean {user}?"),
        ("[auth]\npush_message =\n", ("auth", "push_message"), "must not be empty"),
        ("[auth]\nprompt = $\npush_message = $\n", ("auth", "push_message"), "no secret is known"),
        ("[account]\npush_timeout = 1\n", ("account", "push_timeout"), "from 6 to 600 seconds"),
        ("[account]\npush_timeout = 1d\n", ("account", "push_timeout"), "from 6 to 600 seconds"),
        ("[account]\nwithout_second_factor = maybe\n", ("account", "without_second_factor"), "deny or push or allow"),
        ("[usermapping source=explicit]\na = 1\nA = 2\n", ("usermapping source=explicit", "a"), "second time"),
    ],
)
def test_each_kind_of_mistake_is_named_with_what_to_write_instead(text: str, place: tuple[str, str], said: str) -> None:
    found = refusals(MINIMAL + text)
    assert list(found) == [place]
    assert said in found[place]


@pytest.mark.parametrize("value", ["onlyone", "a b:c", ":x", ""])
def test_a_credential_in_another_form_is_refused_once_and_not_called_missing(value: str) -> None:
    found = refusals(f"[starling]\ncredential = {value}\n")
    assert list(found) == [("starling", "credential")]
    assert "client_id:client_secret" in found["starling", "credential"]


def test_polls_must_fit_into_the_wait() -> None:
    assert ("starling", "rest_poll_interval") in refusals(MINIMAL + "timeout = 20\nrest_poll_interval = 20\n")


def test_a_refused_key_causes_no_second_complaint() -> None:
    text = MINIMAL + "timeout = soon\nrest_poll_interval = 70\n[auth]\npush_number = maybe\nprompt = {number}\n"
    assert set(refusals(text)) == {("starling", "timeout"), ("auth", "push_number")}


@pytest.mark.parametrize("swallowed", ["permit_root = no", "PERMIT_ROOT: no", "[account]", "[https-proxy]"])
def test_an_indented_line_that_is_a_key_or_section_is_not_swallowed_by_the_value_above(swallowed: str) -> None:
    found = refusals(MINIMAL + f"[auth]\nprompt = x {{number}}\n\n  {swallowed}\n")
    assert found == {("auth", "prompt"): "goes on in line 6, which is indented: remove the blanks before that line"}


def test_a_prompt_may_have_several_lines() -> None:
    assert load(MINIMAL + "[auth]\nprompt = Enter {number}\n  or type: the code\n").rules.prompt == (
        "Enter {number}\nor type: the code"
    )


def test_sections_without_any_key_count_as_absent() -> None:
    assert load("[DEFAULT]\n[whitelist source=user_list]\n[https_proxy]\n[https-proxy]\n" + MINIMAL) == load(MINIMAL)


def test_a_disabled_proxy_is_none_although_its_keys_are_checked() -> None:
    assert load(MINIMAL + "[https_proxy]\nenabled = no\nserver = a\n").proxy is None
    assert load(MINIMAL + "[https_proxy]\nenabled = no\n").proxy is None
    assert ("https_proxy", "port") in refusals(MINIMAL + "[https_proxy]\nenabled = no\nport = 0\n")


def test_a_proxy_may_have_an_ipv6_address() -> None:
    assert load(MINIMAL + "[https_proxy]\nserver = 2001:db8::1\n").proxy == "http://[2001:db8::1]:3128"


def test_other_hosts_replace_the_environments() -> None:
    settings = load(MINIMAL + "service_url = https://127.0.0.1:8443\ntoken_url = https://127.0.0.1:8443/\n")
    assert settings.starling.service_url == settings.starling.token_url == "https://127.0.0.1:8443"
    assert settings.warnings == ()


def test_the_default_prompt_has_a_number_only_where_the_phone_has_one() -> None:
    assert load(MINIMAL).rules.prompt == NUMBERED_PROMPT
    without = load(MINIMAL + "[auth]\npush_number = no\n")
    assert without.rules.prompt == VENDOR_PROMPT
    assert without.warnings == ()


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("[auth]\nprompt = Code?\n", ("auth", "prompt"), "write {number} into it"),
        ("[auth]\ndisable_echo = yes\n", ("auth", "disable_echo"), "PasswordAuthentication"),
        ("[auth]\ninteractive_protocols = rdp,ssh,telnet\n", ("auth", "interactive_protocols"), "rdp, telnet: not app"),
        ("[account]\nwithout_second_factor = allow\n", ("account", "without_second_factor"), "without a second factor"),
        ("[account]\npush_timeout = 101\n", ("account", "push_timeout"), "LoginGraceTime"),
        ("timeout = 101\n", ("starling", "timeout"), "LoginGraceTime"),
        ("service_url = https://a\n", ("starling", "service_url"), "without token_url"),
        ("token_url = https://a\n", ("starling", "token_url"), "without service_url"),
        (
            "environment = x\nservice_url = https://a\ntoken_url = https://a\n",
            ("starling", "environment"),
            "no effect",
        ),
        ("[usermapping source=explicit]\nbob = b@x\n", ("usermapping source=explicit", "bob"), "not all digits"),
        ("[usermapping source=explicit]\nbob = ٣\n", ("usermapping source=explicit", "bob"), "not all digits"),
    ],
)
def test_what_works_but_should_be_known_is_a_warning(text: str, place: tuple[str, str], said: str) -> None:
    found = warnings(MINIMAL + text)
    assert list(found) == [place]
    assert said in found[place]


def test_no_service_that_can_prompt_is_a_warning_too() -> None:
    settings = load(MINIMAL + "[auth]\ninteractive_protocols = rdp\n")
    assert settings.rules.interactive_services == frozenset()
    assert [warning.message for warning in settings.warnings][1].startswith("leaves no service")


def test_a_ca_file_is_read_and_must_hold_certificates() -> None:
    def absent(path: Path) -> bytes:
        raise FileNotFoundError(2, "No such file or directory", str(path))

    text = MINIMAL + "ca_file = /ca.pem\n"
    assert config.load(text, NONE, lambda _: CA).starling.ca_file == Path("/ca.pem")
    broken = CA.replace(CA[60:70], b"!!!!!!!!!!")
    for read_file in (absent, lambda _: b"", lambda _: b"no PEM", lambda _: b"\xff\xfe", lambda _: broken):
        with pytest.raises(ConfigError) as refused:
            config.load(text, NONE, read_file)
        (problem,) = refused.value.problems
        assert (problem.section, problem.key) == ("starling", "ca_file")
        assert "PEM" in problem.message


def test_a_dollar_sign_is_looked_up_and_two_are_one() -> None:
    assert load("[starling]\ncredential = $\n").starling.client_secret.reveal() == "kept-secret"
    assert load(MINIMAL + "[auth]\nprompt = $\npush_number = no").rules.prompt == "Hi"
    assert load(MINIMAL + "[auth]\nprompt = $$\npush_number = no").rules.prompt == "$"
    with pytest.raises(ConfigError, match=r"line 2: \[starling\] credential: no secret is known"):
        config.load("[starling]\ncredential = $\n", NONE)


def test_without_secrets_nothing_is_looked_up_and_nothing_is_held_against_it() -> None:
    assert config.check("[starling]\ncredential = $\n[https_proxy]\nserver = $\npassword = $\n", None) == ()
    with pytest.raises(ConfigError, match="did you mean timeout"):
        config.check("[starling]\ncredential = $\ntimeut = 1\n", None)
    with pytest.raises(ConfigError, match="is missing"):
        config.check("[starling]\n", None)


def test_an_error_carries_the_warnings_too() -> None:
    with pytest.raises(ConfigError) as refused:
        load("[auth]\ndisable_echo = yes\n")
    assert [warning.key for warning in refused.value.warnings] == ["disable_echo"]


Pair = tuple[Section[Any], Key]
KEYS = [(section, key) for section in DEFINITION for key in section.definitions()]
PLAIN = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=30).map(str.strip)
"""Values of one line, as they can stand behind a key."""


def is_unfit(key: Key, value: str) -> bool:
    try:
        key.parse(value)
    except Unfit:
        return True
    return False


def heading(section: Section[Any]) -> str:
    """Tell a line that begins this section."""
    return f"{section.name} x" if section.named else f"{section.name}_1" if section.numbered else section.name


def one_key(section: Section[Any], key: Key, value: str) -> str:
    """Make a text that sets this key, and the credential."""
    line = f"{'somebody' if key.rest else key.name} = {value}\n"
    if key.name == "credential":
        return f"[starling]\n{line}"
    return MINIMAL + line if section.name == "starling" else f"{MINIMAL}[{heading(section)}]\n{line}"


@given(st.sampled_from(KEYS), PLAIN.filter(lambda value: value not in {"$", "$$"}))
def test_a_value_that_its_parser_refuses_never_yields_settings(pair: Pair, value: str) -> None:
    section, key = pair
    assume(is_unfit(key, value))
    with pytest.raises(ConfigError) as refused:
        load(one_key(section, key, value))
    assert (heading(section), "somebody" if key.rest else key.name) in {
        (problem.section, problem.key) for problem in refused.value.problems
    }


PASTED = ("Zs3cretZ", "Zs3cretZ:Zs3cretZ", "https://Zs3cretZ:Zs3cretZ@x/", "{Zs3cretZ}", "-Zs3cretZ", "Zs3cretZ é")


@pytest.mark.parametrize(("section", "key"), [(heading(each), key.name) for each, key in KEYS] + [("auth", "unknown")])
def test_no_message_repeats_a_value_whatever_key_it_was_pasted_to(section: str, key: str) -> None:
    for pasted in PASTED:
        with pytest.raises(ConfigError) as refused:
            load(f"[{section}]\n{key} = {pasted}\nZs3cretZ\n")
        said = [*refused.value.problems, *refused.value.warnings]
        assert "s3cret" not in "".join(map(str, said)).lower()


HEADINGS = st.sampled_from([heading(section) for section in DEFINITION] + ["https-proxy", "DEFAULT", "auht", "", "x"])
NAMES = st.sampled_from([key.name for _, key in KEYS] + ["alice", "promt", ""])
WORDS = st.one_of(
    st.sampled_from(["", "$", "$$", "yes", "no", "1", "30", "-1", "15m", "a:b", "https://a", "{number}", "a,b", "/x"]),
    st.text(max_size=20),
)
LINES = st.one_of(
    st.builds("[{}]".format, HEADINGS),
    st.builds("{}{}={}".format, st.sampled_from(["", " ", "\t"]), NAMES, WORDS),
    st.text(max_size=20),
)


@given(st.one_of(st.text(), st.lists(LINES, max_size=25).map("\n".join)))
def test_any_text_yields_settings_or_a_config_error_and_nothing_else(text: str) -> None:
    problems = problems_of(text)
    assert all(str(problem).isprintable() for problem in problems)
    if not problems:
        assert load(text).starling.service_url.startswith("https://")


def problems_of(text: str) -> tuple[Problem, ...]:
    try:
        load(text)
    except ConfigError as error:
        return error.problems
    return ()


@given(st.integers(0, 10), st.sampled_from(["timeout", "rest_poll_interval", "http_timeout", "push_window"]))
def test_lone_surrogates_are_refused_and_break_nothing(place: int, key: str) -> None:
    value = "a" * place + "\ud800"
    with pytest.raises(ConfigError, match="control character"):
        load(f"{MINIMAL}[auth]\nprompt = {value}\n[starling]\n{key} = {value}\n")
