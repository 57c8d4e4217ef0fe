"""Lists, grace, limits, questions and the directory: each rule that joins their keys, with what to write instead."""

import pytest
import trustme

from starlingd import config
from starlingd.config import ConfigError, KnownSecrets, Settings
from starlingd.core.rules import DirectorySchema, Tls

NONE = KnownSecrets({})
MINIMAL = "[starling]\ncredential = id:s3cret\n"
CA = trustme.CA().cert_pem.bytes()
ENROL = "[starling_auto_provision]\nemail_attribute = mail\nphone_attribute = mobile\n"
LIMIT = "connection_limit by=client_ip_gateway_user"
BY_LIST = "whitelist source=user_list"
BY_GROUP = "whitelist source=ldap_server_group"
POLICY = "ldap_server_policy corp"
ROBOTS = "[user_list robots]\nallow = no_user\nexcept = backup\n"


def policy(**changes: str | None) -> str:
    """Write a directory's sections; None leaves a key out."""
    keys = {"uri": "ldaps://dc", "base_dn": "dc=x", "schema": "rfc2307"} | changes
    lines = "".join(f"{key} = {value}\n" for key, value in keys.items() if value is not None)
    return f"[ldap_server]\nname = corp\n[{POLICY}]\n{lines}"


def asking(number: int, key: str) -> str:
    """Write a question's section."""
    return f"[question_{number}]\nprompt = What?\nkey = {key}\n"


DIRECTORY = policy()


def load(text: str) -> Settings:
    return config.load(text, NONE, lambda _: CA)


def refusals(text: str) -> dict[tuple[str, str], str]:
    """Give every problem of a text, by section and key."""
    with pytest.raises(ConfigError) as refused:
        load(text)
    return {(problem.section, problem.key): problem.message for problem in refused.value.problems}


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("[auth]\nmax_failures = 51\n", ("auth", "max_failures"), "from 1 to 50"),
        ("[auth]\nnot_enrolled = allow_until\n", ("auth", "not_enrolled"), "2030-12-31"),
        ("[auth]\nnot_enrolled = enrol\n", ("auth", "not_enrolled"), "needs [starling_auto_provision]"),
        ("[connection_limit by=client_ip_gateway_user]\nlimit = -1\n", (f"{LIMIT}", "limit"), "from 0"),
        ("[connection_limit]\nlimit = 1\n", ("connection_limit", ""), f"did you mean [{LIMIT}]?"),
        ("[authentication_cache]\nsoft_timeout = -1\n", ("authentication_cache", "soft_timeout"), "not be negative"),
        ("[authentication_cache]\nbind = ssh_key\n", ("authentication_cache", "bind"), "must name user"),
        ("[authentication_cache]\nbind = user, service\n", ("authentication_cache", "bind"), "client_ip or ssh_key"),
        ("[authentication_cache]\nbind = ip\n", ("authentication_cache", "bind"), "must be user or client_ip"),
        (
            "[authentication_cache]\nreuse_limit = 1\nconn_limit = 1\n",
            ("authentication_cache", "conn_limit"),
            "is another name",
        ),
        (f"[{BY_LIST}]\nname = robots\n", (BY_LIST, "name"), "write it as [user_list NAME]"),
        (f"[{BY_LIST}]\nname = x\n[user_list x]\n", (BY_LIST, "name"), "does not have"),
        (f"[{BY_LIST}]\nname = robot\n{ROBOTS}", (BY_LIST, "name"), "did you mean robots?"),
        ("[user_list x]\nallow = no_user\n", ("user_list x", "except"), "is missing"),
        ("[user_list x]\nexcept = a\n", ("user_list x", "allow"), "is missing"),
        ("[user_list x]\nallow = all_users\nexcept =\n", ("user_list x", "except"), "would exempt everybody"),
        ("[user_list x]\nallow = all_users\nexcept = ,\n", ("user_list x", "except"), "would exempt everybody"),
        ("[whitelist source=network]\nallow = no_user\n", ("whitelist source=network", "except"), "is missing"),
        ("[whitelist source=network]\nexcept = ::/0\n", ("whitelist source=network", "allow"), "is missing"),
        (
            "[whitelist source=network]\nallow = all_users\nexcept =\n",
            ("whitelist source=network", "except"),
            "everybody",
        ),
        (
            "[whitelist source=network]\nallow = no_user\nexcept = ::1, 192.0.2.1/24\n",
            ("whitelist source=network", "except"),
            "item 2",
        ),
        (f"[{BY_GROUP}]\nallow = no_user\n{DIRECTORY}", (BY_GROUP, "except"), "is missing"),
        (f"[{BY_GROUP}]\nallow = no_user\nexcept = ops\n", (BY_GROUP, "allow"), "needs a directory"),
        (f"[{BY_GROUP}]\nallow = no_user\nexcept = cn=a,dc=b\n{DIRECTORY}", (BY_GROUP, "except"), "double quotes"),
        (
            "[usermapping source=ldap_server]\nuser_attribute = mail\n",
            ("usermapping source=ldap_server", "user_attribute"),
            "needs a directory",
        ),
        (
            ENROL,
            ("starling_auto_provision", "phone_attribute"),
            "needs a directory",
        ),
        (
            f"{ENROL}[username_transform]\nappend_domain = example.org\n{DIRECTORY}",
            ("username_transform", "append_domain"),
            "does not go with",
        ),
        ("[username_transform]\nappend_domain = @example.org\n", ("username_transform", "append_domain"), "contain @"),
        ('[username_transform]\nappend_domain = ""\n', ("username_transform", "append_domain"), "without quotes"),
        ("[ldap_server]\nname = corp\n", ("ldap_server", "name"), "[ldap_server_policy NAME]"),
        ("[ldap_server_policy]\nuri = ldapi://%2Fs\n", ("ldap_server_policy", ""), "[ldap_server_policy NAME]"),
        (policy(uri=""), (POLICY, "uri"), "must not be empty"),
        (policy(uri=None), (POLICY, "uri"), "is missing"),
        (policy(base_dn=None), (POLICY, "base_dn"), "is missing"),
        (policy(schema=None), (POLICY, "schema"), "is missing"),
        (policy(schema="novell"), (POLICY, "schema"), "ad or rfc2307 or rfc2307bis"),
        (policy(bind_dn="cn=x"), (POLICY, "bind_password"), "is missing"),
        (policy(bind_password="x"), (POLICY, "bind_dn"), "is missing"),
        (policy(uri="ldap://a, ldaps://a"), (POLICY, "uri"), "mixes"),
        (policy(tls="starttls"), (POLICY, "tls"), "write ldap:// in uri"),
        (policy(uri="ldap://a", tls="ldaps"), (POLICY, "tls"), "write ldaps:// in uri"),
        (policy(uri="ldap://localhost, ldap://a", tls="none"), (POLICY, "tls"), "over a network"),
        (policy(user_filter="(uid=x)"), (POLICY, "user_filter"), "{user}"),
        (policy(user_filter="(uid={dn})"), (POLICY, "user_filter"), "may hold {user} only"),
        (policy(group_filter="(member={dn}"), (POLICY, "group_filter"), "parentheses"),
        (policy(pool_size="0"), (POLICY, "pool_size"), "from 1"),
        ("[question_1]\nkey = a\n", ("question_1", "prompt"), "is missing"),
        ("[question_1]\nprompt = a\n", ("question_1", "key"), "is missing"),
        ("[question_1]\nprompt = a\nkey = OTP\n", ("question_1", "key"), "must not be otp"),
        ("[question_1]\nprompt = a\nkey = a b\n", ("question_1", "key"), "letters, digits and _"),
        (f"{asking(1, 'a1')}{asking(2, 'A1')}", ("question_2", "key"), "also that of [question_1]"),
        (f"{asking(1, 'a')}pattern = [a\n", ("question_1", "pattern"), "no regular expression"),
        ("[question_01]\nprompt = a\nkey = a\n", ("question_01", ""), "did you mean [question_N]?"),
        ("[question_]\nprompt = a\nkey = a\n", ("question_", ""), "did you mean [question_N]?"),
    ],
)
def test_each_kind_of_mistake_is_named_with_what_to_write_instead(text: str, place: tuple[str, str], said: str) -> None:
    found = refusals(MINIMAL + text)
    assert list(found) == [place]
    assert said in found[place]


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("[auth]\nfail_mode = safe\n", ("auth", "fail_mode"), "safe lets in everybody"),
        ("[auth]\nfail_mode = safe\nfail_open_users = a\n", ("auth", "fail_mode"), "those in fail_open_users"),
        ("[auth]\nfail_open_users = a\n", ("auth", "fail_open_users"), "no effect"),
        ("[auth]\nnot_enrolled = allow_until 2999-12-31\n", ("auth", "not_enrolled"), "until that day"),
        ("[auth]\nnot_enrolled = allow_until 2020-12-31\n", ("auth", "not_enrolled"), "is over since 2021-01-01 00:00"),
        ("[auth]\nenforce = observe until 2999-12-31\n", ("auth", "enforce"), "until that day nobody is asked"),
        ("[auth]\nenforce = observe until 2020-12-31\n", ("auth", "enforce"), "is over since 2021-01-01 00:00 UTC"),
        ("[username_transform]\nappend_domain = a.b\n", ("username_transform", "append_domain"), "not all digits"),
        ("[authentication_cache]\nhard_timeout = 1h\n", ("authentication_cache", "hard_timeout"), "no effect"),
        ("[authentication_cache]\nbind = user, client_ip\n", ("authentication_cache", "bind"), "no effect"),
        ("[authentication_cache]\nconn_limit = 5\n", ("authentication_cache", "conn_limit"), "is called reuse_limit"),
        (ROBOTS, ("user_list robots", ""), "is not used"),
        (
            f"[{BY_LIST}]\nname = robots\n{ROBOTS.replace('no_user', 'ALL_users')}",
            ("user_list robots", "allow"),
            "exempts everybody but",
        ),
        (
            "[whitelist source=network]\nallow = all_users\nexcept = ::/0\n",
            ("whitelist source=network", "allow"),
            "exempts everybody but",
        ),
        (DIRECTORY.replace("[ldap_server]\nname = corp\n", ""), (POLICY, ""), "is not used"),
        (
            "[starling_auto_provision]\nemail_attribute = mail\n",
            ("starling_auto_provision", "phone_attribute"),
            "is missing, so that nobody is enrolled",
        ),
        (
            "[starling_auto_provision]\nphone_attribute = mail\n",
            ("starling_auto_provision", "email_attribute"),
            "is missing, so that nobody is enrolled",
        ),
        (asking(1, "a") + asking(3, "b"), ("question_3", ""), "is never asked"),
        (asking(0, "a"), ("question_0", ""), "is never asked"),
        (f"[question_1]\n{asking(2, 'b')}", ("question_2", ""), "is never asked"),
    ],
)
def test_what_works_but_should_be_known_is_a_warning(text: str, place: tuple[str, str], said: str) -> None:
    (found,) = load(MINIMAL + text).warnings
    assert (found.section, found.key) == place
    assert said in found.message


def test_an_attribute_that_its_owner_may_write_is_a_warning_in_active_directory() -> None:
    text = f"{MINIMAL}[usermapping source=ldap_server]\nuser_attribute = mobile\n"
    assert not any("SELF" in warning.message for warning in load(text + DIRECTORY).warnings)
    assert any("SELF" in warning.message for warning in load(text + policy(schema="ad")).warnings)


@pytest.mark.parametrize(
    ("uri", "tls"),
    [
        ("ldap://a", Tls.STARTTLS),
        ("ldapi://%2Fs, ldap://a", Tls.STARTTLS),
        ("ldaps://a", Tls.LDAPS),
        ("ldapi://%2Fs", Tls.NONE),
    ],
)
def test_a_directorys_protection_follows_from_its_address_and_is_never_none_over_a_network(uri: str, tls: Tls) -> None:
    directory = load(MINIMAL + policy(uri=uri)).rules.directory
    assert directory is not None
    assert directory.tls is tls


@pytest.mark.parametrize("uri", ["ldap://127.0.0.5", "ldap://[::1]:389", "ldap://LOCALHOST", "ldapi://%2Frun%2Fldapi"])
def test_on_this_host_a_directory_may_be_asked_in_the_clear(uri: str) -> None:
    assert load(MINIMAL + policy(uri=uri, tls="none")).warnings == ()


def test_the_directorys_filters_follow_from_its_schema() -> None:
    for schema in DirectorySchema:
        directory = load(MINIMAL + policy(schema=schema)).rules.directory
        assert directory is not None
        assert "{user}" in directory.user_filter
        assert "{dn}" in directory.group_filter or "{user}" in directory.group_filter


def test_a_directorys_password_is_not_shown_and_kept_under_one_name_however_the_section_is_spaced() -> None:
    text = MINIMAL + policy(bind_dn="cn=b", bind_password="$").replace("policy corp", "policy   corp")
    settings = config.load(text, KnownSecrets({"ldap_server_policy corp.bind_password": "h1dden"}))
    assert settings.rules.directory is not None
    assert settings.rules.directory.bind_password == "h1dden"
    assert "h1dden" not in repr(settings)


def test_an_answer_goes_to_the_audit_event_only_if_it_is_shown_or_that_is_asked_for() -> None:
    def audited(lines: str) -> bool:
        (question,) = load(MINIMAL + asking(1, "a") + lines).rules.questions
        return question.audit

    assert [audited(lines) for lines in ("", "disable_echo = no\n")] == [False, True]
    assert [audited(lines) for lines in ("audit = yes\n", "disable_echo = no\naudit = no\n")] == [True, False]


def test_questions_are_asked_in_order_up_to_the_first_gap() -> None:
    text = MINIMAL + asking(10, "x") + asking(2, "b") + asking(1, "a") + asking(4, "d")
    assert [question.key for question in load(text).rules.questions] == ["a", "b"]
    assert [warning.section for warning in load(text).warnings] == ["question_10", "question_4"]


def test_a_refused_list_causes_no_second_complaint() -> None:
    text = f"{MINIMAL}[{BY_LIST}]\nname = robots\n[user_list robots]\nallow = nobody\nexcept = a\n"
    assert set(refusals(text)) == {("user_list robots", "allow")}
    text = MINIMAL + policy(uri="http://a", tls="none", bind_dn="")
    assert set(refusals(text)) == {(POLICY, "uri"), (POLICY, "bind_dn")}


def test_a_directorys_ca_file_is_read_too() -> None:
    text = MINIMAL + policy(ca_file="/ca.pem")
    with pytest.raises(ConfigError, match=r"corp\] ca_file: holds no certificate"):
        config.load(text, NONE, lambda _: b"")


@pytest.mark.parametrize("value", ["key", "$"])
def test_both_of_starlings_services_at_once_are_refused_even_unseen(value: str) -> None:
    text = f"[starling]\ncredential = {value}\napi_key = {value}\n"
    with pytest.raises(ConfigError, match="remove one"):
        config.check(text.replace("= key", "= id:secret", 1), None)


def test_the_older_service_has_its_own_host_and_no_other() -> None:
    starling = load("[starling]\napi_key = kept\n").starling
    assert (starling.service_url, starling.token_url) == ("https://api.2fa.cloud.oneidentity.com", "")
    assert "kept" not in repr(starling)
    for name, value in (("environment", "eu"), ("service_url", "https://a"), ("token_url", "https://a")):
        assert "has no effect" in str(load(f"[starling]\napi_key = k\n{name} = {value}\n").warnings[0])
    assert "without api_key" in str(load("[starling]\ncredential = i:s\napi_url = https://a\n").warnings[0])


@pytest.mark.parametrize("value", ["two words", "kéy", "a\n b"])
def test_a_key_that_no_header_can_hold_is_refused(value: str) -> None:
    with pytest.raises(ConfigError, match="printable ASCII"):
        load(f"[starling]\napi_key = {value}\n")
