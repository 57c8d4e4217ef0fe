"""What a conversation may ask of the world, one value for each kind of step, and what may interrupt it.

``server/session.py`` performs the steps and sends back ``(answer, now)``, ``now`` being monotonic seconds. A step that
fails is answered by throwing ``Unavailable`` into the conversation; whatever ends the login from outside is thrown as
an ``Interrupted``.

Where an ``identity`` is None the step is about nobody: an account that does not exist or may not use a second factor.
It must take the time of a real step, count like one, and never cause a call to the service (FIELD-FACTS 14).
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlingd.core.model import Reason, Verdict

if TYPE_CHECKING:
    from starlingd.core.grace import Key
    from starlingd.core.model import Push


@dataclass(frozen=True, slots=True)
class Say:
    """Show a sentence. Answer: None."""

    text: str


@dataclass(frozen=True, slots=True)
class Ask:
    """Show a prompt and wait for the answer, which uses up one attempt of the connection. Answer: the text typed."""

    text: str
    echo: bool


@dataclass(frozen=True, slots=True)
class LookUp:
    """Find the account of a user name. Answer: ``Account`` or None."""

    user: str


@dataclass(frozen=True, slots=True)
class FindGroups:
    """Find in which of ``groups`` the directory has each of ``names``. Answer: ``policy.Groups``."""

    names: tuple[str, ...]
    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FindIdentity:
    """Find a user's identity in the directory's ``attribute``. Answer: ``policy.Mapped``."""

    user: str
    attribute: str


@dataclass(frozen=True, slots=True)
class Enrol:
    """Find how ``name``, whose account is ``user``, is enrolled, and enrol them if need be. Answer: ``Enrolled``.

    ``only_look`` enrols nobody.
    """

    name: str
    user: str
    only_look: bool = False


@dataclass(frozen=True, slots=True)
class Defer:
    """See whether ``user`` may still do without a second factor (allow_until). Answer: the days left, 0 for no."""

    user: str


@dataclass(frozen=True, slots=True)
class CountSessions:
    """Count the sessions of ``user`` from ``place``, those about to be opened included. Answer: a number."""

    user: str
    place: str


@dataclass(frozen=True, slots=True)
class Reuse:
    """Take one reuse of a grace entry whose ``basis`` still holds. Answer: the ``Entry`` after it, or a ``Miss``."""

    key: Key
    basis: str


@dataclass(frozen=True, slots=True)
class Peek:
    """See what ``Reuse`` would answer, and take nothing. Answer: the ``Entry`` as it would be, or a ``Miss``."""

    key: Key
    basis: str


@dataclass(frozen=True, slots=True)
class Inquire:
    """Ask a question that has nothing to do with the second factor and uses up no attempt. Answer: the text typed."""

    text: str
    echo: bool


@dataclass(frozen=True, slots=True)
class Match:
    """Match the whole of a text against a regular expression; too slow is no match. Answer: bool."""

    pattern: str
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Probe:
    """See whether the service cannot be reached by the daemon's own calls either (SEMANTICS §10). Answer: bool."""


@dataclass(frozen=True, slots=True)
class Verify:
    """Check a code, unless ``user`` guessed too often. Answer: ``Check``; for nobody, WRONG. Does not show the code.

    A right one of this host's own codes is answered by ``Passed``. ``guess`` says whether a wrong one counts against
    the user, ``local`` that the service is not to be asked.
    """

    user: str
    identity: str | None
    code: str = field(repr=False)
    guess: bool = True
    local: bool = False


@dataclass(frozen=True, slots=True)
class HasLocalCode:
    """See whether ``user`` has one of the codes that may stand in for the service. Answer: bool."""

    user: str


@dataclass(frozen=True, slots=True)
class MayEnrol:
    """See whether ``user`` never had a second factor here. Answer: bool."""

    user: str


@dataclass(frozen=True, slots=True)
class OfferedApp:
    """What somebody needs to set up an app: the secret in groups, and a QR code or nothing."""

    secret: str = field(repr=False)
    qr: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class OfferApp:
    """Make a secret for a new app of ``user``, which is kept nowhere yet. Answer: ``OfferedApp``."""

    user: str
    drawn: bool


@dataclass(frozen=True, slots=True)
class KeepApp:
    """Enrol the app that this login was offered, if ``code`` is its. Answer: ``Passed``, or WRONG.

    REUSED says that the user has an app by now.
    """

    user: str
    code: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class StartPush:
    """Send a push, within the limits of ``user``. Answer: ``Started`` or ``NotStarted``."""

    user: str
    identity: str | None
    push: Push


@dataclass(frozen=True, slots=True)
class CheckPush:
    """Ask how the push stands. Answer: ``PushStatus``; for nobody, PENDING."""

    user: str
    identity: str | None
    request: str


@dataclass(frozen=True, slots=True)
class CancelPush:
    """Give up a push that has no answer: stop minding it, and count it as unanswered. Answer: None."""

    user: str


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait. Answer: None."""

    seconds: float


Step = (
    Say
    | Ask
    | LookUp
    | FindGroups
    | FindIdentity
    | Enrol
    | Defer
    | CountSessions
    | Reuse
    | Peek
    | Inquire
    | Match
    | Probe
    | Verify
    | HasLocalCode
    | MayEnrol
    | OfferApp
    | KeepApp
    | StartPush
    | CheckPush
    | CancelPush
    | Pause
)
Reply = tuple[Any, float]
"""The answer that the step's docstring promises, and the monotonic time."""
Conversation = Generator[Step, Reply, Verdict]


class Interrupted(Exception):  # noqa: N818  not an error of the conversation: its end, from outside
    """The login ended from outside; the conversation may still cancel its push and must return a denial."""

    reason = Reason.INTERNAL_ERROR


class HungUp(Interrupted):
    """The peer is gone."""

    reason = Reason.HUNG_UP


class TimeUp(Interrupted):
    """The login's deadline has passed."""

    reason = Reason.DEADLINE


class ShuttingDown(Interrupted):
    """The daemon stops."""

    reason = Reason.BUSY


class Misbehaved(Interrupted):
    """The module broke the wire's rules."""

    reason = Reason.PROTOCOL_ERROR
