"""Every key the parser knows changes what it is there to change, and nothing else needs to be written for it."""

import datetime as dt
import ipaddress
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

from starlingd import config
from starlingd.config import DEFINITION, KnownSecrets, Settings
from starlingd.config.secrets import Secret
from starlingd.core.provisioning import OnLeaving
from starlingd.core.rules import (
    Allow,
    Bind,
    DirectorySchema,
    EnrolQr,
    ExemptResult,
    FailMode,
    Fallback,
    GroupList,
    NetworkList,
    NotEnrolled,
    OnChange,
    OnMappingFailure,
    Provider,
    Tls,
    Unenrolled,
    UserList,
    WithoutSecondFactor,
)

CA = trustme.CA().cert_pem.bytes()
KNOWN = [(section.title, key.rest or key.name) for section in DEFINITION for key in section.definitions()]
HEADINGS = {
    "user_list NAME": "user_list robots",
    "ldap_server_policy NAME": "ldap_server_policy corp",
    "question_N": "question_1",
}
POLICY = "ldap_server_policy NAME"
PROVISION = "starling_auto_provision"
BY_LIST, BY_GROUP, BY_NETWORK = (
    f"whitelist source={source}" for source in ("user_list", "ldap_server_group", "network")
)

BASE = {
    "starling": {"credential": "id:secret"},
    "authentication_cache": {"reuse_limit": "1"},
    BY_LIST: {"name": "robots"},
    "user_list NAME": {"allow": "no_user", "except": "backup"},
    BY_GROUP: {"allow": "no_user", "except": "ops"},
    BY_NETWORK: {"allow": "no_user", "except": "192.0.2.0/24"},
    PROVISION: {"email_attribute": "mail", "phone_attribute": "mobile"},
    "ldap_server": {"name": "corp"},
    POLICY: {"uri": "ldaps://dc", "base_dn": "dc=x", "schema": "rfc2307", "bind_dn": "cn=b", "bind_password": "p"},
    "provisioning": {"groups": "staff"},
    "question_N": {"prompt": "Ticket?", "key": "ticket"},
    "https_proxy": {"server": "proxy", "username": "u", "password": "p"},
}
"""A configuration of which every case changes one key."""
OTHER_LISTS = (
    "[user_list others]\nallow = no_user\nexcept = x\n"
    "[ldap_server_policy other]\nuri = ldapi://%2Fs\nbase_dn = o=y\nschema = ad\n"
)

Look = Callable[[Settings], Any]


def of(section: str, name: str) -> Look:
    """Look at one attribute of a part of the rules, or of the whole for an empty ``section``."""
    return lambda settings: getattr(getattr(settings.rules, section) if section else settings.rules, name)


def rule(name: str) -> Look:
    return of("", name)


def loop(name: str) -> Look:
    return lambda settings: getattr(settings.loop, name)


def directory(name: str) -> Look:
    return of("directory", name)


def question(name: str) -> Look:
    return lambda settings: getattr(settings.rules.questions[0], name)


VAULT_KEY = "A" * 43 + "="
UNTIL = dt.datetime(2031, 1, 1, tzinfo=dt.UTC).timestamp()
CASES: dict[tuple[str, str], tuple[str, Look, object]] = {
    ("auth", "provider"): ("totp", rule("provider"), Provider.TOTP),
    ("auth", "fallback"): ("recovery", rule("fallback"), {Fallback.RECOVERY}),
    ("auth", "enrol_qr"): ("none", rule("enrol_qr"), EnrolQr.NONE),
    ("totp", "key"): (VAULT_KEY, lambda settings: settings.totp_key, Secret(VAULT_KEY)),
    ("totp", "algorithm"): ("sha256", of("apps", "algorithm"), "sha256"),
    ("totp", "digits"): ("8", of("apps", "digits"), 8),
    ("totp", "step"): ("60", of("apps", "step"), 60),
    ("totp", "window"): ("2", of("apps", "window"), 2),
    ("starling", "credential"): ("other:secret", lambda settings: settings.starling.client_id, "other"),
    ("starling", "api_key"): ("key", lambda settings: settings.starling.api_key, Secret("key")),
    ("starling", "api_url"): ("https://a", lambda settings: settings.starling.service_url, "https://a"),
    ("starling", "environment"): (
        "eu",
        lambda settings: settings.starling.token_url,
        "https://sts-eu.cloud.oneidentity.com",
    ),
    ("starling", "service_url"): ("https://a", lambda settings: settings.starling.service_url, "https://a"),
    ("starling", "token_url"): ("https://a", lambda settings: settings.starling.token_url, "https://a"),
    ("starling", "ca_file"): ("/ca", lambda settings: settings.starling.ca_file, Path("/ca")),
    ("starling", "http_timeout"): ("3", lambda settings: settings.starling.http_timeout, 3.0),
    ("starling", "timeout"): ("90", rule("push_timeout"), 90),
    ("starling", "rest_poll_interval"): ("2", rule("poll_interval"), 2),
    ("auth", "prompt"): ("{number}?", rule("prompt"), "{number}?"),
    ("auth", "disable_echo"): ("yes", rule("disable_echo"), True),
    ("auth", "interactive_protocols"): ("ssh", rule("interactive_services"), {"sshd"}),
    ("auth", "max_attempts"): ("4", rule("max_attempts"), 4),
    ("auth", "permit_root"): ("yes", rule("permit_root"), True),
    ("auth", "push_message"): ("Hi", rule("push_message"), "Hi"),
    ("auth", "push_number"): ("no", rule("push_number"), False),
    ("auth", "push_limit"): ("4", rule("push_limit"), 4),
    ("auth", "push_window"): ("1m", rule("push_window"), 60),
    ("auth", "max_failures"): ("6", rule("max_failures"), 6),
    ("auth", "failure_window"): ("1h", rule("failure_window"), 3600),
    ("auth", "exempt_result"): ("Success", rule("exempt_result"), ExemptResult.SUCCESS),
    ("auth", "fail_mode"): ("safe", rule("fail_mode"), FailMode.SAFE),
    ("auth", "fail_open_users"): ("a, b", rule("fail_open_users"), {"a", "b"}),
    ("auth", "not_enrolled"): (
        "allow_until 2030-12-31",
        rule("not_enrolled"),
        Unenrolled(NotEnrolled.ALLOW_UNTIL, UNTIL),
    ),
    ("auth", "enforce"): ("observe until 2030-12-31", rule("observe_until"), UNTIL),
    ("auth", "on_mapping_failure"): ("keep", rule("on_mapping_failure"), OnMappingFailure.KEEP),
    ("account", "without_second_factor"): ("push", rule("without_second_factor"), WithoutSecondFactor.PUSH),
    ("account", "push_timeout"): ("30", rule("account_push_timeout"), 30),
    ("metrics", "listen"): ("127.0.0.1:9109", lambda settings: settings.metrics, "127.0.0.1:9109"),
    ("provisioning", "groups"): ("a, b", loop("groups"), ("a", "b")),
    ("provisioning", "interval"): ("2h", loop("interval"), 7200),
    ("provisioning", "rate_limit"): ("7", loop("rate_limit"), 7),
    ("provisioning", "on_leaving"): ("block", loop("on_leaving"), OnLeaving.BLOCK),
    ("provisioning", "dry_run"): ("yes", loop("dry_run"), True),
    ("provisioning", "max_errors"): ("3", loop("max_errors"), 3),
    ("provisioning", "max_shrink"): ("50", loop("max_shrink"), 0.5),
    ("control", "operators"): ("ops, sre", lambda settings: settings.control.operators, {"ops", "sre"}),
    ("control", "helpdesk"): ("desk", lambda settings: settings.control.helpdesk, {"desk"}),
    ("connection_limit by=client_ip_gateway_user", "limit"): ("10", rule("connection_limit"), 10),
    ("authentication_cache", "soft_timeout"): ("2.5", of("grace", "soft_timeout"), 2.5),
    ("authentication_cache", "hard_timeout"): ("12h", of("grace", "hard_timeout"), 43200.0),
    ("authentication_cache", "reuse_limit"): ("-1", of("grace", "reuse_limit"), -1),
    ("authentication_cache", "bind"): ("user,ssh_key", of("grace", "bind"), {Bind.USER, Bind.SSH_KEY}),
    (BY_LIST, "name"): ("others", rule("user_list"), UserList("others", Allow.NO_USER, frozenset({"x"}))),
    (BY_LIST, "break_glass"): ("rescue", rule("break_glass"), {"rescue"}),
    ("user_list NAME", "allow"): ("all_users", of("user_list", "allow"), Allow.ALL_USERS),
    ("user_list NAME", "except"): ("Alice, DOM\\bob", of("user_list", "excepted"), {"Alice", "DOM\\bob"}),
    (BY_GROUP, "allow"): ("all_users", rule("groups"), GroupList(Allow.ALL_USERS, ("ops",))),
    (BY_GROUP, "except"): ('"cn=a,dc=x", b c', of("groups", "excepted"), ("cn=a,dc=x", "b c")),
    (BY_NETWORK, "allow"): (
        "All_Users",
        rule("networks"),
        NetworkList(Allow.ALL_USERS, (ipaddress.ip_network("192.0.2.0/24"),)),
    ),
    (BY_NETWORK, "except"): ("::1", of("networks", "excepted"), (ipaddress.ip_network("::1/128"),)),
    ("usermapping source=explicit", "<user>"): ("17", rule("explicit_mapping"), {"<user>": "17"}),
    ("usermapping source=ldap_server", "user_attribute"): ("employeeID", rule("mapping_attribute"), "employeeID"),
    ("username_transform", "append_domain"): ("example.org", rule("append_domain"), "example.org"),
    (PROVISION, "email_attribute"): ("other", of("provisioning", "email_attribute"), "other"),
    (PROVISION, "phone_attribute"): ("other", of("provisioning", "phone_attribute"), "other"),
    (PROVISION, "display_name_attribute"): ("cn", of("provisioning", "display_name_attribute"), "cn"),
    (PROVISION, "default_region"): ("de", of("provisioning", "default_region"), "DE"),
    (PROVISION, "on_change"): ("reprovision", of("provisioning", "on_change"), OnChange.REPROVISION),
    (PROVISION, "welcome"): ("Hello", of("provisioning", "welcome"), "Hello"),
    ("memory_cache", "ttl"): ("1d", of("provisioning", "forget_after"), 86400),
    ("ldap_server", "name"): ("other", directory("base_dn"), "o=y"),
    (POLICY, "uri"): ("ldap://a:389, ldap://B", directory("uri"), ("ldap://a:389", "ldap://b")),
    (POLICY, "base_dn"): ("ou=a\\,b, dc=x", directory("base_dn"), "ou=a\\,b, dc=x"),
    (POLICY, "bind_dn"): ("user@example.org", directory("bind_dn"), "user@example.org"),
    (POLICY, "bind_password"): ("$", directory("bind_password"), "kept"),
    (POLICY, "tls"): ("none", directory("tls"), Tls.NONE),
    (POLICY, "ca_file"): ("/ca", directory("ca_file"), "/ca"),
    (POLICY, "schema"): ("AD", directory("schema"), DirectorySchema.AD),
    (POLICY, "user_filter"): ("(cn={user})", directory("user_filter"), "(cn={user})"),
    (POLICY, "group_filter"): ("(m={dn})", directory("group_filter"), "(m={dn})"),
    (POLICY, "timeout"): ("2.5", directory("timeout"), 2.5),
    (POLICY, "pool_size"): ("2", directory("pool_size"), 2),
    (POLICY, "insecure"): ("yes", directory("insecure"), True),
    ("question_N", "prompt"): ("Why?", question("prompt"), "Why?"),
    ("question_N", "key"): ("reason", question("key"), "reason"),
    ("question_N", "disable_echo"): ("no", question("disable_echo"), False),
    ("question_N", "required"): ("yes", question("required"), True),
    ("question_N", "pattern"): ("[0-9]+", question("pattern"), "[0-9]+"),
    ("question_N", "audit"): ("yes", question("audit"), True),
    ("question_N", "export"): ("yes", question("export"), True),
    ("https_proxy", "server"): ("other", lambda settings: settings.proxy, "http://u:p@other:3128"),
    ("https_proxy", "port"): ("80", lambda settings: settings.proxy, "http://u:p@proxy:80"),
    ("https_proxy", "username"): ("v", lambda settings: settings.proxy, "http://v:p@proxy:3128"),
    ("https_proxy", "password"): ("q", lambda settings: settings.proxy, "http://u:q@proxy:3128"),
    ("https_proxy", "enabled"): ("no", lambda settings: settings.proxy, None),
    ("logging", "log_level"): ("debug", lambda settings: settings.log_level, "debug"),
}
NEEDED_BESIDES = {
    ("starling", "api_url"): {"starling": {"api_key": "key"}},
    ("auth", "provider"): {"totp": {"key": VAULT_KEY}},
    ("username_transform", "append_domain"): {PROVISION: {}, "provisioning": {}},
    (POLICY, "tls"): {POLICY: {"uri": "ldap://localhost"}},
}
"""What else must be different for a case to be right."""
INSTEAD_OF = {("starling", "api_key"): "credential"}
"""Keys of the base that go when another one comes."""
ACCEPTED = {
    ("memory_cache", "prefix"): "x",
    ("credential_store", "name"): "x",
}
"""Keys that are accepted and change nothing: with the value that says so."""


def load(changes: dict[str, dict[str, str]]) -> Settings:
    """Read the base with some of its keys changed; a section that is changed to nothing is left out."""
    sections = {name: BASE.get(name, {}) | changes.get(name, {}) for name in BASE | changes}
    sections |= {name: {} for name, keys in changes.items() if not keys}
    for (name, key), gone in INSTEAD_OF.items():
        sections[name] = {
            each: value for each, value in sections[name].items() if key not in sections[name] or each != gone
        }
    text = "".join(
        f"[{HEADINGS.get(name, name)}]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items())
        for name, keys in sections.items()
    )
    return config.load(
        text + OTHER_LISTS, KnownSecrets({"ldap_server_policy corp.bind_password": "kept"}), lambda _: CA
    )


def test_every_key_has_a_case_here() -> None:
    assert CASES.keys() | ACCEPTED.keys() == set(KNOWN)
    assert not CASES.keys() & ACCEPTED.keys()


@pytest.mark.parametrize(("section", "key"), CASES)
def test_a_key_changes_what_it_is_for(section: str, key: str) -> None:
    value, look, expected = CASES[section, key]
    besides = NEEDED_BESIDES.get((section, key), {})
    changes = besides | {section: besides.get(section, {}) | {key: value}}
    assert look(load(changes)) == expected
    assert look(load(besides)) != expected


@pytest.mark.parametrize(("section", "key"), ACCEPTED)
def test_a_key_that_is_only_accepted_changes_nothing(section: str, key: str) -> None:
    changed = load({section: {key: ACCEPTED[section, key]}})
    assert (changed.rules, changed.starling) == (load({}).rules, load({}).starling)
