"""The people and groups that every world of the directory's contract holds, and what each of them is there for."""

from __future__ import annotations

from dataclasses import dataclass, field

LOOP = 50
"""Groups of which each is a member of the next, and the last of the first."""

SECRET = "Passw0rd-of-the-reader"
"""What the daemon binds with in every world."""

LONG = b"x" * 65536
HOSTILE = (b"fine", b"\x1b]0;title\x07\x1b[31mred", "e\u202elif".encode(), LONG, b"Z\xc3\xbcrich")
"""Values of one attribute: two that can be used, three that must not come out."""
PICTURE = b"\xff\xd8\xff\xe0\x00\x10JFIF"


@dataclass(frozen=True)
class Someone:
    """A person. ``primary`` is the group they belong to without being listed there."""

    name: str
    mail: tuple[str, ...] = ()
    phones: tuple[str, ...] = ()
    display: str = ""
    disabled: bool = False
    expires: int | None = None
    """Days after 1970-01-01."""
    primary: str = ""
    notes: tuple[bytes, ...] = ()
    picture: bytes = b""


@dataclass(frozen=True)
class Group:
    """A group, its listed members, and the unit it lies in."""

    name: str
    people: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    unit: str = "Groups"


@dataclass(frozen=True)
class Population:
    """Everybody and every group of a directory."""

    people: tuple[Someone, ...]
    groups: tuple[Group, ...]
    ids: dict[str, int] = field(default_factory=dict)

    def gid(self, group: str) -> int:
        """Give each group a number of its own."""
        return 5000 + [each.name for each in self.groups].index(group)


EVERYBODY = Population(
    people=(
        Someone("alice", ("alice@example.org",), ("+44 20 7946 0001", "+44 20 7946 0002"), "Alice Ünal"),
        Someone("bob", ("bob@example.org",), ("+44 20 7946 0003",), "Bob"),
        Someone("carol", display="Carol without anything"),
        Someone("dave", primary="staff"),
        Someone("erin", disabled=True),
        Someone("frank", expires=12000),
        Someone("grace", expires=40000),
        Someone("henry", notes=HOSTILE, picture=PICTURE),
        Someone("ivan"),
        Someone("o'hara-(x)"),
        Someone("twin1", ("twin@example.org",)),
        Someone("twin2", ("twin@example.org",)),
    ),
    groups=(
        Group("admins", ("alice", "erin", "frank"), ("ops",)),
        Group("ops", ("bob", "o'hara-(x)"), ("night",)),
        Group("night", ("grace",)),
        Group("staff", ("henry",)),
        Group("all staff", (), ("staff",)),
        Group("empty"),
        Group("x, y+z #1", ("alice",)),
        Group("twins", ("alice",)),
        Group("twins", ("alice",), unit="Elsewhere"),
        *(
            Group(f"loop{number}", ("ivan",) if number == 0 else (), (f"loop{(number - 1) % LOOP}",))
            for number in range(LOOP)
        ),
    ),
)
"""``loop0`` is a member of ``loop1``, and so on; ``loop49`` is a member of ``loop0``."""
