"""Every key the parser knows stands in etc/starling.conf, with its default, and in starling.conf(5)."""

import re
from ipaddress import ip_network
from pathlib import Path

import pytest
import trustme

from starlingd import config
from starlingd.config import DEFINITION, KnownSecrets
from starlingd.config.directory import GROUP_FILTERS, USER_FILTERS
from starlingd.core.model import Reason
from starlingd.core.rules import (
    Allow,
    DirectoryPolicy,
    DirectorySchema,
    Fallback,
    GroupList,
    NetworkList,
    Provisioning,
    Question,
    Rules,
    Tls,
    UserList,
)

ROOT = Path(__file__).parents[2]
SAMPLE = (ROOT / "etc/starling.conf").read_text(encoding="utf-8")
MANUAL = (ROOT / "docs/starling.conf.5.scd").read_text(encoding="utf-8")
KNOWN = [(section.title, key.rest or key.name) for section in DEFINITION for key in section.definitions()]
CA = trustme.CA().cert_pem.bytes()
EXAMPLES = {
    "<user>": "alice",
    "user_list NAME": "user_list robots",
    "ldap_server_policy NAME": "ldap_server_policy corp",
    "question_N": "question_1",
}
"""What stands in the sample for what the manual calls by another name."""
EXAMPLE_RULES = Rules(
    poll_interval=2,
    explicit_mapping={"alice": "5551234"},
    mapping_attribute="employeeNumber",
    break_glass=frozenset({"rescue"}),
    user_list=UserList("robots", Allow.NO_USER, frozenset({"backup", "monitoring"})),
    groups=GroupList(Allow.NO_USER, ("robots", "cn=night shift,ou=groups,dc=example,dc=org")),
    networks=NetworkList(Allow.NO_USER, (ip_network("192.0.2.0/24"), ip_network("2001:db8::/32"))),
    questions=(Question(1, "ticket", "Number of your ticket:", pattern="[A-Z]{2,5}-[0-9]{1,6}"),),
    fail_open_users=frozenset({"alice"}),
    directory=DirectoryPolicy(
        name="corp",
        uri=("ldap://dc1.example.org", "ldap://dc2.example.org"),
        base_dn="dc=example,dc=org",
        schema=DirectorySchema.AD,
        tls=Tls.STARTTLS,
        user_filter=USER_FILTERS[DirectorySchema.AD],
        group_filter=GROUP_FILTERS[DirectorySchema.AD],
        bind_dn="cn=bastion,dc=example,dc=org",
        bind_password="b",
        ca_file="/etc/pam-starling/directory-ca.pem",
    ),
    provisioning=Provisioning("mail", "mobile", default_region="DE"),
    fallback=frozenset(Fallback),
)
"""The defaults, and what the sample has examples of."""


def parts(text: str, heading: str) -> dict[str, str]:
    """Tell what stands below each heading of a text."""
    pieces = re.split(heading, text, flags=re.MULTILINE)
    return dict(zip(pieces[1::2], pieces[2::2], strict=True))


def switched_on(text: str) -> str:
    """Make every key's line of the sample count."""
    return re.sub(r"^#(?=[a-z_]+ = )", "", text, flags=re.MULTILINE)


@pytest.mark.parametrize(("section", "key"), KNOWN)
def test_a_known_key_has_a_line_in_the_sample(section: str, key: str) -> None:
    below = parts(SAMPLE, r"^\[(.+)\]$")[EXAMPLES.get(section, section)]
    assert re.search(rf"^#{EXAMPLES.get(key, key)} = .", below, re.MULTILINE)


@pytest.mark.parametrize(("section", "key"), KNOWN)
def test_a_known_key_has_a_paragraph_in_the_manual(section: str, key: str) -> None:
    below = parts(MANUAL, r"^#+ \[(.+)\]$")[section]
    assert re.search(rf"^\*{re.escape(key)}\* = .+\n\t\S", below, re.MULTILINE)


def test_the_manual_and_the_sample_know_nothing_that_the_parser_does_not() -> None:
    for text, heading, line in ((SAMPLE, r"^\[(.+)\]$", r"^#(\S+) = "), (MANUAL, r"^#+ \[(.+)\]$", r"^\*(\S+)\* = ")):
        below = parts(text, heading)
        found = {(section, key) for section in below for key in re.findall(line, below[section], re.MULTILINE)}
        called = EXAMPLES if text is SAMPLE else {}
        assert found == {(called.get(section, section), called.get(key, key)) for section, key in KNOWN}


def test_the_sample_as_it_is_lacks_the_credential_and_nothing_else() -> None:
    with pytest.raises(config.ConfigError) as refused:
        config.load(SAMPLE, KnownSecrets({}))
    assert [(problem.section, problem.key) for problem in refused.value.problems] == [("starling", "credential")]


def load(text: str) -> config.Settings:
    kept = {"starling.credential": "id:s", "https_proxy.password": "p", "ldap_server_policy corp.bind_password": "b"}
    kept |= {"starling.api_key": "k", "totp.key": "A" * 43 + "="}
    return config.load(text, KnownSecrets(kept), lambda _: CA)


def test_the_samples_lines_are_the_defaults_or_examples() -> None:
    sample = load(re.sub(r"^(append_domain|api_key|api_url).*", "", switched_on(SAMPLE), flags=re.MULTILINE))
    assert sample.rules == EXAMPLE_RULES
    bare = load("[starling]\ncredential = $\n")
    assert sample.starling.service_url == bare.starling.service_url
    assert sample.starling.token_url == bare.starling.token_url
    assert (sample.log_level, sample.starling.http_timeout) == (bare.log_level, bare.starling.http_timeout)
    assert sample.proxy == "http://bastion:p@proxy.example.org:3128"
    assert (sample.control.operators, sample.control.helpdesk) == ({"staff"}, {"operator"})


def test_a_domain_is_the_samples_alternative_to_enrolment_and_a_key_that_to_the_credential() -> None:
    with pytest.raises(config.ConfigError) as refused:
        load(switched_on(SAMPLE))
    assert [(problem.section, problem.key) for problem in refused.value.problems] == [
        ("starling", ""),
        ("username_transform", "append_domain"),
    ]
    domain = load(SAMPLE.replace("#append_domain", "append_domain").replace("#credential", "credential"))
    assert domain.rules == Rules(append_domain="example.org")


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_code_is_in_the_daemons_manual(reason: Reason) -> None:
    manual = (ROOT / "docs/starlingd.8.scd").read_text(encoding="utf-8")
    assert f"\n*{reason}*\n\t" in manual
