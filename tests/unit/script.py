"""The vocabulary of the core's tests: a conversation without sockets, threads or a clock that runs.

``play`` holds a conversation to a script, a list of (expected step, reply), and fails when the script is not used up.
``World`` answers whatever a conversation asks, as the daemon's performer would, and remembers it; it is what property
tests use. A reply that is an exception is thrown. Nothing here may know how a conversation is written.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from starlingd.core.directory import Membership
from starlingd.core.grace import Entry, Miss
from starlingd.core.model import (
    Account,
    Check,
    Fault,
    Login,
    NotStarted,
    Process,
    PushStatus,
    Started,
    Unavailable,
)
from starlingd.core.policy import Groups, Mapped
from starlingd.core.secondfactor import SHORTEST_PUSH, Facts
from starlingd.core.steps import (
    Ask,
    CancelPush,
    CheckPush,
    CountSessions,
    Defer,
    FindGroups,
    FindIdentity,
    HungUp,
    Inquire,
    LookUp,
    Match,
    Misbehaved,
    Pause,
    Peek,
    Probe,
    Reuse,
    Say,
    ShuttingDown,
    StartPush,
    Step,
    TimeUp,
    Verify,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlingd.core.model import Verdict
    from starlingd.core.steps import Conversation

T = TypeVar("T")

START = 1000.0
"""The monotonic time at which every conversation begins."""
DEADLINE = START + 100
ALICE = Account("alice", 1000)
ROOT = Account("root", 0)
RIGHT, WRONG = "123456", "654321"
STARTED = Started("request-1")
FACTS = Facts(gateway="bastion.example.org", number="42")
LOGIN = Login(
    user="alice",
    service="sshd",
    client_ip="198.51.100.7",
    tty="ssh",
    connection="198.51.100.7 50000 192.0.2.1 22",
    auth_info="publickey ssh-ed25519 AAAA",
    first_factor="",
    caller=Process(50, 500),
    parent=Process(40, 400),
    deadline=DEADLINE,
    login_id="",
)


def groups(group: str | None) -> Groups:
    """Make the answer about one spelling of a name; None where the directory cannot tell, "" for no group."""
    return Groups((None if group is None else Membership(group or None),))


Line = tuple[Step, object]
"""A line of a script: the step that is expected, and its reply."""
INTERRUPTIONS = (HungUp, TimeUp, ShuttingDown, Misbehaved)
MOST_STEPS = 2000


def unreachable(retry_after: float = 0.0) -> Unavailable:
    """Make the outage of a service that cannot be reached."""
    return Unavailable("starling", Fault.UNREACHABLE, "timed out", retry_after)


def rate_limited(retry_after: float) -> Unavailable:
    """Make the outage of a service that says 429."""
    return Unavailable("starling", Fault.RATE_LIMITED, "429", retry_after)


def outage(fault: Fault, port: str = "starling") -> Unavailable:
    """Make an outage of a kind."""
    return Unavailable(port, fault, "as the test says")


OUTAGES = (
    *(outage(fault) for fault in Fault),
    rate_limited(3.0),
    outage(Fault.BROKEN, "nss"),
    outage(Fault.BUSY, "store"),
    outage(Fault.UNREACHABLE, "directory"),
)


@dataclass(frozen=True)
class Took:
    """A reply that comes ``seconds`` after its step."""

    seconds: float
    reply: object


def play(conversation: Conversation, *script: Line) -> Verdict:
    """Hold a conversation to its script; time passes in pauses and where a reply says that it took some."""
    now = START
    advance: Callable[[], Step] = partial(next, conversation)
    for position, (expected, reply) in enumerate(script):
        try:
            step = advance()
        except StopIteration as end:
            message = f"the conversation ended before line {position} of its script, with {end.value}"
            raise AssertionError(message) from None
        assert step == expected, f"line {position} of the script"
        now += (step.seconds if isinstance(step, Pause) else 0.0) + (reply.seconds if isinstance(reply, Took) else 0.0)
        advance = _answer(conversation, reply.reply if isinstance(reply, Took) else reply, now)
    try:
        step = advance()
    except StopIteration as end:
        verdict: Verdict = end.value
        return verdict
    message = f"the script is used up, and the conversation wants {step}"
    raise AssertionError(message)


def _answer(conversation: Conversation, reply: object, now: float) -> Callable[[], Step]:
    if isinstance(reply, Exception):
        return partial(conversation.throw, reply)
    return partial(conversation.send, (reply, now))


@dataclass
class World:
    """Answers every step, as the performer would; the last reply of each list comes again and again.

    A list of ``answers`` (to prompts) or ``told`` (to questions) that is used up is a user who hangs up.
    ``interruption`` is thrown in place of the reply to step number ``interrupted_at``. Steps about nobody get nobody's
    answers, unless the driver is ``gullible``; that somebody is locked is said of nobody, too.
    """

    account: Account | Exception | None = ALICE
    group: str | Exception | None = ""
    mapped: str | Exception = ""
    sessions: int | Exception = 0
    entry: Entry | Miss | Exception = Miss.NO_ENTRY
    unreachable: bool | Exception = False
    days: int = 0
    """What is left of the time in which the user may do without a second factor."""
    answers: Sequence[str | Exception] = ()
    told: Sequence[str | Exception] = ()
    matches: Sequence[bool | Exception] = (True,)
    checks: Sequence[Check | Exception] = (Check.WRONG,)
    starts: Sequence[Started | NotStarted | Exception] = (STARTED,)
    statuses: Sequence[PushStatus | Exception] = (PushStatus.PENDING,)
    call_takes: float = 0.0
    interrupted_at: int | None = None
    interruption: Exception = field(default_factory=HungUp)
    gullible: bool = False
    deadline: float = DEADLINE
    steps: list[tuple[Step, float]] = field(default_factory=list)
    """Every step, and when it was asked for."""
    replies: list[object] = field(default_factory=list)
    now: float = START
    pending: bool = False
    """Whether a push was started that has neither an answer nor been given up."""

    def run(self, conversation: Conversation) -> Verdict:
        """Perform a conversation to its verdict, watching what must hold for every one."""
        advance: Callable[[], Step] = partial(next, conversation)
        while True:
            try:
                step = advance()
            except StopIteration as end:
                verdict: Verdict = end.value
                break
            assert len(self.steps) < MOST_STEPS, "the conversation goes on and on"
            self.steps.append((step, self.now))
            self.replies.append(self._perform(step))
            advance = _answer(conversation, self.replies[-1], self.now)
        assert not self.pending, "a push was left pending"
        return verdict

    def seen(self) -> list[str]:
        """Tell what the user saw, in order."""
        return [step.text for step, _ in self.steps if isinstance(step, Say | Ask | Inquire)]

    def of(self, kind: type[T]) -> list[T]:
        """Tell all steps of a kind."""
        return [step for step, _ in self.steps if isinstance(step, kind)]

    def _perform(self, step: Step) -> object:
        if isinstance(step, CancelPush):
            self._end_push()
        if len(self.steps) - 1 == self.interrupted_at:
            return self.interruption
        reply = self._reply(step)
        if isinstance(step, StartPush) and isinstance(reply, Started):
            assert not self.pending, "one push at a time"
            self.pending = True
        if isinstance(step, CheckPush) and reply in {PushStatus.APPROVED, PushStatus.DENIED, PushStatus.EXPIRED}:
            self._end_push()
        return reply

    def _end_push(self) -> None:
        assert self.pending, "only a push that is pending can end"
        self.pending = False

    def _reply(self, step: Step) -> object:
        if isinstance(step, Pause):
            self.now += step.seconds
        match step:
            case Verify() | StartPush() | CheckPush():
                return self._served(step)
            case Ask():
                return self._typed(Ask, self.answers)
            case Inquire():
                return self._typed(Inquire, self.told)
            case Match():
                return self._nth(Match, self.matches)
        return self._fact(step)

    def _fact(self, step: Step) -> object:
        facts: dict[type[Step], object] = {
            LookUp: self.account,
            FindGroups: self._groups(),
            FindIdentity: Mapped(self.mapped) if isinstance(self.mapped, str) else self.mapped,
            CountSessions: self.sessions,
            Reuse: self.entry,
            Peek: self.entry,
            Probe: self.unreachable,
            Defer: self.days,
        }
        return facts.get(type(step))

    def _groups(self) -> object:
        """Tell what the directory says: None is that it cannot, "" that the user is in none of the groups."""
        return groups(self.group) if self.group is None or isinstance(self.group, str) else self.group

    def _served(self, step: Verify | StartPush | CheckPush) -> object:
        """Answer as the provider and the limits before it do."""
        asked_at = self.now
        self.now += self.call_takes
        match step:
            case Verify():
                check = self._nth(Verify, self.checks)
                return check if check is Check.LOCKED else self._about(step.identity, check, Check.WRONG)
            case StartPush():
                assert SHORTEST_PUSH <= step.push.lifetime <= self.deadline - asked_at, "a push outlives the deadline"
                started = self._nth(StartPush, self.starts)
                limits_of_all = started in {NotStarted.PENDING, NotStarted.LIMIT, NotStarted.LOCKED}
                return started if limits_of_all else self._about(step.identity, started, STARTED)
        return self._about(step.identity, self._nth(CheckPush, self.statuses), PushStatus.PENDING)

    def _typed(self, kind: type[Step], texts: Sequence[str | Exception]) -> str | Exception:
        return self._nth(kind, texts) if len(self.of(kind)) <= len(texts) else HungUp()

    def _nth(self, kind: type[Step], replies: Sequence[T]) -> T:
        return replies[min(len(self.of(kind)), len(replies)) - 1]

    def _about(self, identity: str | None, reply: object, nobody: object) -> object:
        """Answer for somebody, or for nobody; outages strike both (the daemon's decoy replays them)."""
        return reply if identity is not None or self.gullible or isinstance(reply, Exception) else nobody
