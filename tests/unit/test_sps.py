"""A plugin configuration of the vendor's gateway: every option is accounted for, and what is written is right."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starlingd import config
from starlingd.config import DEFINITION, KnownSecrets, Outcome, ini, sps, vendor
from starlingd.config.secrets import Secret
from starlingd.core.rules import VENDOR_PROMPT, Allow, Grace, GroupList, Question, Rules, UserList

DATA = Path(__file__).parents[1] / "data"
SAMPLE, VERSION_1, VERSION_2 = (
    (DATA / name).read_text(encoding="utf-8") for name in ("sps-sample.cfg", "sps-version-1.cfg", "sps-version-2.cfg")
)
KEPT = KnownSecrets(
    {"starling.credential": "id:s", "starling.api_key": "k", "https_proxy.password": "p", "question_2.prompt": "Why?"}
)
BY_GROUP = "whitelist source=ldap_server_group"
GRACE = "authentication_cache"
HEAD = "write the client_id:client_secret that joining to Starling gives to "


def translate(text: str) -> Outcome:
    return vendor.translate(ini.parse(text))


def rules(outcome: Outcome) -> Rules:
    assert outcome.problems == ()
    return config.load(outcome.text, KEPT).rules


def results(outcome: Outcome) -> dict[str, str]:
    """Tell what becomes of each option, as ``section.key``."""
    found = {
        f"{option.old_section}.{option.old_key}": f"{option.section}.{option.key}" if option.section else option.result
        for option in outcome.options
    }
    assert len(found) == len(outcome.options)
    return found


def test_the_sample_of_empty_sections_is_read_without_complaint() -> None:
    outcome = translate(SAMPLE)
    assert (outcome.options, outcome.problems, outcome.warnings) == ((), (), ())
    assert [each.startswith(HEAD) for each in outcome.to_do] == [True]
    assert rules(outcome) == Rules()


def test_a_sample_with_its_defaults_switched_on_is_what_it_is_by_default() -> None:
    lines = (
        "timeout",
        "limit",
        "hard_timeout",
        "soft_timeout",
        "reuse_limit",
        "log_level",
        "prompt=Press",
        "disable_echo=no",
    )
    text = "\n".join(line.removeprefix("; ") if line[2:].startswith(lines) else line for line in SAMPLE.splitlines())
    outcome = translate(text)
    assert {option.result for option in outcome.options} == {sps.Result.KEPT}
    assert len(outcome.options) == len(lines)
    assert rules(outcome) == Rules(prompt=VENDOR_PROMPT)


def test_every_option_of_version_1_has_its_place_or_its_reason() -> None:
    outcome = translate(VERSION_1)
    assert results(outcome) == {
        "starling.api_key": "starling.api_key",
        "starling.api_url": "starling.api_url",
        "starling.timeout": "starling.timeout",
        "starling.rest_poll_interval": "starling.rest_poll_interval",
        "users.alice": "usermapping source=explicit.alice",
        "users.bob": "usermapping source=explicit.bob",
        "plugin.config_version": "not applicable",
        "plugin.log_level": "logging.log_level",
        "plugin.cred_store": "credential_store.name",
        "auth.prompt": "auth.prompt",
        "auth.whitelist": "whitelist source=user_list.name",
        "username_transform.append_domain": "username_transform.append_domain",
        "ldap.ldap_server_config": "ldap_server.name",
        "ldap.filter": "ldap_server_policy corp.user_filter",
        "ldap.user_attribute": "usermapping source=ldap_server.user_attribute",
        "cache.soft_timeout": "authentication_cache.soft_timeout",
        "cache.hard_timeout": "authentication_cache.hard_timeout",
        "cache.conn_limit": "authentication_cache.reuse_limit",
        "question_1.key": "question_1.key",
        "question_1.prompt": "question_1.prompt",
        "question_1.disable_echo": "question_1.disable_echo",
    }
    assert all(option.reason for option in outcome.options if option.result is sps.Result.NOT_APPLICABLE)


def test_a_configuration_of_version_1_means_the_same_here() -> None:
    made = rules(translate(VERSION_1))
    assert made.grace == Grace(15.5, 90.0, 5)
    assert made.explicit_mapping == {"alice": "5551234", "bob": "5555678"}
    assert made.prompt == "Enter for a push, or the code. 100% sure:"
    assert (made.mapping_attribute, made.append_domain) == ("employeeNumber", "")
    assert made.directory is not None
    assert made.directory.user_filter == "(&(samAccountName={user})(objectClass=user))"
    assert made.questions == (Question(1, "ticket", "Ticket?", disable_echo=False, audit=True),)
    settings = config.load(translate(VERSION_1).text, KEPT)
    assert settings.log_level == "warning"
    assert settings.starling.service_url == "https://api.example.org"
    assert settings.starling.api_key == Secret("k")


def test_a_configuration_of_version_2_means_the_same_here() -> None:
    outcome = translate(VERSION_2)
    assert sps.Result.NOT_APPLICABLE not in {option.result for option in outcome.options}
    assert len(outcome.options) == VERSION_2.count("=") - VERSION_2.count(" source=") - VERSION_2.count(" by=")
    made = rules(outcome)
    assert made.interactive_services == {"sshd"}
    assert made.connection_limit == 10
    assert made.grace == Grace(900.0, 28800.0, -1)
    assert made.user_list == UserList("night shift", Allow.NO_USER, frozenset())
    assert made.groups == GroupList(Allow.ALL_USERS, ("ops", "dba"))
    assert made.explicit_mapping == {"carol": "5550000"}
    assert made.provisioning is not None
    assert made.provisioning.forget_after == 600
    assert [(question.prompt, question.disable_echo) for question in made.questions] == [
        ("Ticket?", True),
        ("Why?", False),
    ]
    settings = config.load(outcome.text, KEPT)
    assert settings.proxy == "http://bastion:p@proxy.example.org:8080"
    assert settings.starling.token_url == "https://sts-eu.cloud.oneidentity.com"


def test_what_lies_outside_the_old_file_lets_nobody_in_and_is_said() -> None:
    made = rules(translate("[whitelist source=user_list]\nname = admins\n[ldap_server]\nname = corp\n"))
    assert made.user_list == UserList("admins", Allow.NO_USER, frozenset())
    assert made.directory is not None
    assert made.directory.uri == ("ldaps://directory.invalid",)
    said = (
        "[user_list night shift]",
        "[ldap_server_policy corp]",
        "starling.credential",
        "proxy.password",
        "_2.prompt",
    )
    to_do = translate(VERSION_2).to_do
    assert len(to_do) == len(said)
    assert all(part in each for part, each in zip(said, to_do, strict=True))


def test_no_secret_goes_to_the_new_file_nor_into_what_is_said() -> None:
    for text in (VERSION_1, VERSION_2, "[starling]\ncredential = id:Zs3cretZ\n"):
        outcome = translate(text)
        assert "s3cret" in text
        assert "s3cret" not in repr(outcome)


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("[starling]\ntimeout = 5\n", (2, "starling", "timeout"), "from 6 to 600 seconds"),
        ("[cache]\nsoft_timeout = never\n", (2, "cache", "soft_timeout"), "must be a time"),
        ("[plugin]\nlog_level = loud\n", (2, "plugin", "log_level"), "debug or info"),
        (f"[{BY_GROUP}]\nallow = no_user\n[ldap_server]\nname = x\n", (2, BY_GROUP, "except"), "is missing"),
        (f"[{BY_GROUP}]\nallow = no_user\nexcept = a\n", (2, BY_GROUP, "allow"), "needs a directory"),
        ("[ldap]\nuser_attribute = cn\nfilter = ({})\n", (2, "ldap", "user_attribute"), "needs a directory"),
        ("[ldap]\nldap_server_config = a\nfilter = uid={}\n", (3, "ldap", "filter"), "in parentheses"),
        ("[auth]\nprompt =\n", (2, "auth", "prompt"), "must not be empty"),
        ("[auth]\nprompt = %(otp)s\n", (2, "auth", "prompt"), "refers to an option"),
        ("[question_1]\nprompt = %(disable_echo)s\nkey = a\n", (2, "question_1", "prompt"), "refers to an option"),
        (f"[cache]\nconn_limit = 1\n[{GRACE}]\nreuse_limit = 2\n", (4, GRACE, "reuse_limit"), "line 2 says too"),
        ("[auth]\nprompt = a\nprompt = b\n", (3, "auth", "prompt"), "a second time"),
        ("[DEFAULT]\nlimit = 1\n", (2, "DEFAULT", "limit"), "is not used"),
        ("limit = 1\n", (1, "", "limit"), "before the first section"),
        ("[https_proxy]\nusername = a\n", (2, "https_proxy", "server"), "is missing"),
    ],
)  # fmt: skip
def test_what_must_be_changed_is_said_with_its_place_in_the_old_file(
    text: str, place: tuple[int, str, str], said: str
) -> None:
    problems = translate(text).problems
    assert [(problem.line, problem.section, problem.key) for problem in problems] == [place]
    assert said in problems[0].message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[connection_limit by=client_ip_gateway_user]\nlimt = 1\n", "was limit meant?"),
        ("[cache]\nsoft_timout = 1\n", "was soft_timeout meant?"),
        ("[cahce]\nsoft_timeout = 1\n", "was [cache] meant?"),
        ("[something else]\na = 1\n", "had no effect"),
        ("[username_transform]\nappend_domain =\n", "it is off"),
        ("[auth]\nwhitelist =\n", "it is off"),
        ("[ldap]\nfilter = (cn={})\n", "no directory is named"),
    ],
)
def test_what_had_no_effect_there_has_none_here_and_is_said(text: str, said: str) -> None:
    outcome = translate(text)
    (option,) = outcome.options
    assert option.result is sps.Result.NOT_APPLICABLE
    assert said in option.reason
    assert rules(outcome) == Rules()


@pytest.mark.parametrize(
    ("value", "services", "said"),
    [
        ("ssh", {"sshd"}, "ssh is the service sshd here"),
        ("rdp,ssh,telnet", {"sshd"}, "rdp, telnet: not applicable here"),
        ("login, ssh", {"login", "sshd"}, "ssh is the service sshd here"),
        ("rdp", set(), ""),
    ],
)
def test_protocols_are_services_here(value: str, services: set[str], said: str) -> None:
    outcome = translate(f"[auth]\ninteractive_protocols = {value}\n")
    assert said in outcome.options[0].reason
    assert rules(outcome).interactive_services == services


def test_a_reference_to_another_option_is_filled_in_as_there() -> None:
    made = rules(translate("[question_1]\nkey = ticket\nprompt = Your %(KEY)s, 100%%:\n"))
    assert made.questions[0].prompt == "Your ticket, 100%:"


def test_our_own_keys_stay_when_a_file_has_them_already() -> None:
    outcome = translate("[user_list a]\nallow = no_user\nexcept = b\n[whitelist source=user_list]\nname = a\n")
    assert {option.result for option in outcome.options} == {sps.Result.KEPT}
    assert rules(outcome).user_list == UserList("a", Allow.NO_USER, frozenset({"b"}))


HEADINGS = st.sampled_from([heading for heading, _ in sps.MOVES] + ["question_1", "ldap_server_policy x", "user_list y"]
    + [section.name for section in DEFINITION] + ["https-proxy", "memory-cache", "DEFAULT", "x"])  # fmt: skip
KEYS = st.sampled_from([key for _, key in (*sps.MOVES, *sps.NOT_HERE)] + ["filter", "alice"]
    + [key.name for section in DEFINITION for key in section.definitions()])  # fmt: skip
VALUES = st.one_of(
    st.sampled_from(
        ["", "$", "$$", "yes", "no", "1", "30", "-1", "x", "a,b", "ssh", "({})", '""', "%%", "%(name)s", "#"]
    ),
    st.text(max_size=12),
)
LINES = st.one_of(
    st.builds("[{}]".format, HEADINGS),
    st.builds("{}{}={}".format, st.sampled_from(["", "", " "]), KEYS, VALUES),
    st.text(max_size=12),
)


@given(st.one_of(st.text(), st.lists(LINES, max_size=20).map("\n".join)))
def test_whatever_the_old_file_holds_the_new_one_is_right_or_a_problem_is_told(text: str) -> None:
    outcome = translate(text)
    if not outcome.problems:
        assert config.check(outcome.text, None) is not None
        assert ini.parse(outcome.text).problems == []
    written = sum(len(keys) for keys in ini.parse(text).sections.values())
    assert len(outcome.options) == written
