"""Every key the parser knows stands in etc/starling.conf, with its default, and in starling.conf(5)."""

import re
from pathlib import Path

import pytest
import trustme

from starlingd import config
from starlingd.config import DEFINITION, KnownSecrets
from starlingd.core.model import Reason
from starlingd.core.rules import Rules

ROOT = Path(__file__).parents[2]
SAMPLE = (ROOT / "etc/starling.conf").read_text(encoding="utf-8")
MANUAL = (ROOT / "docs/starling.conf.5.scd").read_text(encoding="utf-8")
KNOWN = [(section.title, key.rest or key.name) for section in DEFINITION for key in section.definitions()]
EXAMPLES = {"<user>": "alice"}


def parts(text: str, heading: str) -> dict[str, str]:
    """Tell what stands below each heading of a text."""
    pieces = re.split(heading, text, flags=re.MULTILINE)
    return dict(zip(pieces[1::2], pieces[2::2], strict=True))


def switched_on(text: str) -> str:
    """Make every key's line of the sample count."""
    return re.sub(r"^#(?=[a-z_]+ = )", "", text, flags=re.MULTILINE)


@pytest.mark.parametrize(("section", "key"), KNOWN)
def test_a_known_key_has_a_line_in_the_sample(section: str, key: str) -> None:
    below = parts(SAMPLE, r"^\[(.+)\]$")[section]
    assert re.search(rf"^#{EXAMPLES.get(key, key)} = .", below, re.MULTILINE)


@pytest.mark.parametrize(("section", "key"), KNOWN)
def test_a_known_key_has_a_paragraph_in_the_manual(section: str, key: str) -> None:
    below = parts(MANUAL, r"^#+ \[(.+)\]$")[section]
    assert re.search(rf"^\*{re.escape(key)}\* = .+\n\t\S", below, re.MULTILINE)


def test_the_manual_and_the_sample_know_nothing_that_the_parser_does_not() -> None:
    for text, heading, line in ((SAMPLE, r"^\[(.+)\]$", r"^#(\S+) = "), (MANUAL, r"^#+ \[(.+)\]$", r"^\*(\S+)\* = ")):
        below = parts(text, heading)
        found = {(section, key) for section in below for key in re.findall(line, below[section], re.MULTILINE)}
        assert found == {(section, EXAMPLES.get(key, key) if text is SAMPLE else key) for section, key in KNOWN}


def test_the_sample_as_it_is_lacks_the_credential_and_nothing_else() -> None:
    with pytest.raises(config.ConfigError) as refused:
        config.load(SAMPLE, KnownSecrets({}))
    assert [(problem.section, problem.key) for problem in refused.value.problems] == [("starling", "credential")]


def test_the_samples_lines_are_the_defaults() -> None:
    secrets = KnownSecrets({"starling.credential": "id:secret", "https_proxy.password": "p"})
    ca = trustme.CA().cert_pem.bytes()
    sample = config.load(switched_on(SAMPLE), secrets, lambda _: ca)
    assert sample.rules == Rules(poll_interval=2, explicit_mapping={"alice": "5551234"})
    bare = config.load("[starling]\ncredential = $\n", secrets)
    assert sample.starling.service_url == bare.starling.service_url
    assert sample.starling.token_url == bare.starling.token_url
    assert (sample.log_level, sample.starling.http_timeout) == (bare.log_level, bare.starling.http_timeout)
    assert sample.proxy == "http://bastion:p@proxy.example.org:3128"


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_code_is_in_the_daemons_manual(reason: Reason) -> None:
    manual = (ROOT / "docs/starlingd.8.scd").read_text(encoding="utf-8")
    assert f"\n*{reason}*\n\t" in manual
