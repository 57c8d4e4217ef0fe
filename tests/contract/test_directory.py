"""What every Directory keeps to, asked of the fake, of slapd in both schemas, and of a Samba domain controller."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from starlingd.adapters.ldap import LdapDirectory
from starlingd.core.directory import Membership, Person, Standing
from starlingd.core.rules import DirectorySchema, Tls
from starlingd.ports import Fault, Unavailable
from tests.contract.directories import DirectoryWorld, fake_world, samba_world, slapd_world
from tests.directory import samba, slapd
from tests.directory.population import EVERYBODY, LOOP
from tests.directory.samba import Samba

if TYPE_CHECKING:
    from collections.abc import Iterator

SOON = 20.0
WORLDS = ("fake", "rfc2307", "rfc2307bis", "ad")


@pytest.fixture(scope="session")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Samba]:
    with samba.running(tmp_path_factory.mktemp("samba") / "s", EVERYBODY) as server:
        yield server


@pytest.fixture(scope="session", params=WORLDS)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DirectoryWorld]:
    place = tmp_path_factory.mktemp("directory") / "s"
    if request.param == "fake":
        with fake_world() as made:
            yield made
    elif request.param == "ad":
        with samba_world(request.getfixturevalue("controller")) as made:
            yield made
    else:
        with slapd.running(place, DirectorySchema(request.param), EVERYBODY) as server, slapd_world(server) as made:
            yield made


def find(world: DirectoryWorld, name: str, *attributes: str) -> Person:
    person = world.directory.person(name, attributes, SOON)
    assert person is not None
    return person


def groups_of(world: DirectoryWorld, name: str, *groups: str) -> Membership:
    return world.directory.membership(find(world, name), groups, SOON)


def everybody_in(world: DirectoryWorld, *groups: str, page: int = 100) -> list[str]:
    return sorted(person.name for people in world.directory.people(groups, (), page) for person in people)


# People


def test_a_person_has_a_name_and_what_was_asked_for(world: DirectoryWorld) -> None:
    alice = find(world, "alice", "mail", world.phone, "displayName")
    assert alice.name == "alice"
    assert alice.first("mail") == "alice@example.org"
    assert alice.first("displayname") == alice.first("DISPLAYNAME") == "Alice Ünal"
    assert sorted(alice.values(world.phone)) == ["+44 20 7946 0001", "+44 20 7946 0002"]
    assert alice.may_log_in


def test_what_was_not_asked_for_or_is_not_there_is_empty(world: DirectoryWorld) -> None:
    carol = find(world, "carol", "mail")
    assert (carol.first("mail"), carol.values("mail"), carol.first("displayName")) == ("", (), "")
    assert set(carol.attributes) == {"mail"}


def test_upper_and_lower_case_are_one_name(world: DirectoryWorld) -> None:
    assert find(world, "ALICE").dn == find(world, "alice").dn
    assert find(world, "ALICE").name == "alice"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "nobody-of-this-name",
        "*",
        "a*",
        "alice)(uid=*",
        "*)(objectClass=*",
        "alice\\2a",
        "alice\x00",
        "\x00",
        "álice",
        "\uff41lice",  # a full-width a
        "ali\u200bce",
        "zo\udcff",
        "(|(uid=alice))",
        "{user}",
        "a" * 1024,
        "é" * 1024,
        "a" * 100_000,
    ],
)
def test_hostile_names_are_nobodys(world: DirectoryWorld, name: str) -> None:
    assert world.directory.person(name, ("mail",), SOON) is None


def test_what_has_a_meaning_in_filters_is_a_letter_like_any_other(world: DirectoryWorld) -> None:
    assert find(world, "o'hara-(x)").name == "o'hara-(x)"
    assert groups_of(world, "o'hara-(x)", "ops").group == "ops"


def test_two_entries_for_one_name_are_an_outage(world: DirectoryWorld) -> None:
    with pytest.raises(Unavailable, match="more than one"):
        world.by_mail.person("twin@example.org", (), SOON)


def test_a_person_can_be_found_by_something_else_and_keeps_the_login_name(world: DirectoryWorld) -> None:
    alice = world.by_mail.person("alice@example.org", (), SOON)
    assert alice is not None
    assert alice.name == "alice"


@pytest.mark.parametrize(
    ("name", "standing"), [("frank", Standing.EXPIRED), ("grace", Standing.ACTIVE), ("carol", Standing.ACTIVE)]
)
def test_an_account_ends_when_the_directory_says_so(world: DirectoryWorld, name: str, standing: Standing) -> None:
    assert find(world, name).standing is standing


def test_a_disabled_account_is_not_to_be_used(world: DirectoryWorld) -> None:
    erin = find(world, "erin")
    assert (erin.standing is Standing.DISABLED) == world.disables
    assert erin.may_log_in != world.disables


def test_what_is_no_decent_text_stays_in_the_directory(world: DirectoryWorld) -> None:
    henry = find(world, "henry", world.notes, "jpegPhoto", "mail")
    assert sorted(henry.values(world.notes)) == ["Zürich", "fine"]
    assert henry.values("jpegPhoto") == ()
    assert henry.unusable == {world.notes.lower(), "jpegphoto"}


def test_an_attribute_with_an_unusable_value_has_no_first_one(world: DirectoryWorld) -> None:
    assert find(world, "henry", world.notes).first(world.notes) == ""


# Groups


def test_a_member_is_told_by_the_name_that_was_asked(world: DirectoryWorld) -> None:
    assert groups_of(world, "alice", "empty", "ADMINS", "ops") == Membership("ADMINS")


def test_who_is_in_none_is_in_none(world: DirectoryWorld) -> None:
    assert groups_of(world, "carol", "admins", "ops", "staff") == Membership()


def test_nobody_is_in_no_groups(world: DirectoryWorld) -> None:
    assert groups_of(world, "alice") == Membership()


def test_a_group_within_a_group_counts(world: DirectoryWorld) -> None:
    assert groups_of(world, "bob", "admins").group == ("admins" if world.nests else None)
    assert groups_of(world, "grace", "admins").group == ("admins" if world.nests else None)


def test_a_group_of_a_group_is_not_the_other_way_round(world: DirectoryWorld) -> None:
    assert groups_of(world, "alice", "ops", "night").group is None


def test_the_primary_group_counts(world: DirectoryWorld) -> None:
    assert groups_of(world, "dave", "staff").group == "staff"
    assert groups_of(world, "dave", "all staff").group == ("all staff" if world.nests else None)


def test_a_group_may_be_named_by_its_dn(world: DirectoryWorld) -> None:
    dn = world.dn("admins")
    assert groups_of(world, "alice", dn) == Membership(dn)
    assert groups_of(world, "carol", dn) == Membership()


def test_a_dn_tells_groups_of_one_name_apart(world: DirectoryWorld) -> None:
    dn = world.dn("twins", "Elsewhere")
    assert groups_of(world, "alice", dn).group == dn


def test_a_group_name_that_occurs_twice_is_an_outage(world: DirectoryWorld) -> None:
    alice = find(world, "alice")
    with pytest.raises(Unavailable, match="more than one"):
        world.directory.membership(alice, ("admins", "twins"), SOON)


def test_a_group_that_does_not_exist_is_said_to_be_missing(world: DirectoryWorld) -> None:
    gone = world.dn("admins").replace("admins", "ghosts")
    assert groups_of(world, "alice", "ghosts", "admins", gone) == Membership("admins", ("ghosts", gone))


def test_what_is_no_group_is_missing(world: DirectoryWorld) -> None:
    dn = find(world, "bob").dn
    assert groups_of(world, "alice", dn, "alice") == Membership(None, (dn, "alice"))


def test_a_group_with_a_name_full_of_meaning(world: DirectoryWorld) -> None:
    assert groups_of(world, "alice", "x, y+z #1").group == "x, y+z #1"
    dn = world.dn("x, y+z #1")
    assert groups_of(world, "alice", dn).group == dn


@pytest.mark.parametrize("group", ["*", "admins)(cn", "\x00", "admins\x00", "a" * 5000, "(", "\\", "é"])
def test_hostile_group_names_are_missing(world: DirectoryWorld, group: str) -> None:
    assert groups_of(world, "alice", group) == Membership(None, (group,))


def test_groups_in_a_circle_come_to_an_end(world: DirectoryWorld) -> None:
    last = f"loop{LOOP - 1}"
    assert groups_of(world, "ivan", last).group == (last if world.nests else None)
    assert groups_of(world, "carol", last) == Membership()
    assert groups_of(world, "ivan", "admins") == Membership()


# Everybody


def test_everybody_in_a_group(world: DirectoryWorld) -> None:
    listed = ["alice", "erin", "frank"]
    assert everybody_in(world, "admins") == sorted([*listed, "bob", "grace", "o'hara-(x)"] if world.nests else listed)
    assert everybody_in(world, "empty") == []


def test_who_is_in_two_groups_comes_once(world: DirectoryWorld) -> None:
    names = everybody_in(world, "admins", "ops", "x, y+z #1")
    assert names == ["alice", "bob", "erin", "frank", *(["grace"] if world.nests else []), "o'hara-(x)"]


def test_everybody_includes_those_of_the_primary_group(world: DirectoryWorld) -> None:
    assert everybody_in(world, "staff") == ["dave", "henry"]
    assert everybody_in(world, "all staff") == (["dave", "henry"] if world.nests else [])


def test_everybody_in_a_circle_comes_once(world: DirectoryWorld) -> None:
    assert everybody_in(world, "loop7", "loop0") == ["ivan"]


def test_pages_are_no_longer_than_asked_and_miss_nobody(world: DirectoryWorld) -> None:
    pages = list(world.directory.people(("admins", "staff", "loop0"), ("mail",), 2))
    assert max(map(len, pages)) <= 2
    names = sorted(person.name for page in pages for person in page)
    assert names == everybody_in(world, "admins", "staff", "loop0")


def test_everybody_comes_with_what_was_asked_for(world: DirectoryWorld) -> None:
    (people,) = [people for people in world.directory.people(("x, y+z #1",), ("mail",), 100) if people]
    assert [(person.name, person.first("mail"), person.standing) for person in people] == [
        ("alice", "alice@example.org", Standing.ACTIVE)
    ]
    assert [person.standing for page in world.directory.people(("staff",), (), 9) for person in page] == [
        Standing.ACTIVE
    ] * 2


def test_everybody_is_as_good_as_the_one_looked_up(world: DirectoryWorld) -> None:
    people = [person for page in world.directory.people(("admins",), ("mail",), 100) for person in page]
    assert {person.name: person for person in people} == {
        person.name: find(world, person.name, "mail") for person in people
    }


def test_everybody_in_a_group_that_does_not_exist_is_an_outage(world: DirectoryWorld) -> None:
    with pytest.raises(Unavailable, match="no group 'ghosts'") as raised:
        list(world.directory.people(("admins", "ghosts"), (), 10))
    assert raised.value.fault is Fault.MISCONFIGURED


def test_going_through_everybody_may_be_given_up(world: DirectoryWorld) -> None:
    pages = world.directory.people(("admins",), (), 1)
    next(pages)
    pages.close()  # type: ignore[attr-defined]  # every one of them is a generator
    assert find(world, "alice").name == "alice"


# Time


def test_without_time_there_is_no_answer(world: DirectoryWorld) -> None:
    alice = find(world, "alice")
    with pytest.raises(Unavailable):
        world.directory.person("alice", (), 0.0)
    with pytest.raises(Unavailable):
        world.directory.membership(alice, ("admins",), -1.0)


# Active Directory's own


def ask_controller(controller: Samba, **changes: object) -> Person | None:
    directory = LdapDirectory(controller.policy(**changes), look_up=controller.look_up)
    try:
        return directory.person("alice", (), SOON)
    finally:
        directory.close()


def test_a_domain_controller_does_starttls(controller: Samba) -> None:
    person = ask_controller(controller, uri=(f"ldap://{samba.HOST}",), tls=Tls.STARTTLS)
    assert person is not None


def test_a_domain_controller_refuses_passwords_in_the_clear(controller: Samba) -> None:
    with pytest.raises(Unavailable, match="strongerAuthRequired") as raised:
        ask_controller(controller, uri=(f"ldap://{samba.HOST}",), tls=Tls.NONE)
    assert raised.value.fault is Fault.MISCONFIGURED


def test_a_domain_controller_is_believed_by_its_name_only(controller: Samba) -> None:
    with pytest.raises(Unavailable, match="certificate"):
        ask_controller(controller, uri=(f"ldaps://{controller.address}",))


def test_people_below_a_unit_have_the_groups_of_the_whole_domain(controller: Samba) -> None:
    policy = controller.policy(base_dn=f"OU=People,{samba.BASE}")
    directory = LdapDirectory(policy, look_up=controller.look_up)
    dave = directory.person("dave", (), SOON)
    assert dave is not None
    (all_staff,) = [samba.group_dn(group) for group in EVERYBODY.groups if group.name == "all staff"]
    assert directory.membership(dave, (all_staff, "staff"), SOON) == Membership(all_staff, ("staff",))
    directory.close()


def test_a_restarted_domain_controller_is_told_again_who_we_are(controller: Samba) -> None:
    directory = LdapDirectory(controller.policy(), look_up=controller.look_up)
    assert directory.person("alice", (), SOON) is not None
    controller.stop()
    with pytest.raises(Unavailable):
        directory.person("alice", (), SOON)
    controller.start()
    assert directory.person("alice", (), SOON) is not None
    directory.close()
