"""What the administrator decided, as the core needs it: one immutable value made from the configuration.

A running login keeps the rules it started with, whatever a reload brings. Nothing here may know files or sections,
except as the text of ``Verdict.rule``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

VENDOR_PROMPT = "Press Enter for push notification or type one-time password:"
NUMBERED_PROMPT = "Press Enter for push notification (number {number}) or type one-time password:"


class WithoutSecondFactor(StrEnum):
    """What the account hook does with a login that has no decision on record (DESIGN §5.3)."""

    DENY = "deny"
    PUSH = "push"
    ALLOW = "allow"


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of one login; times in seconds. SEMANTICS §3 and §11 name the keys and give the meanings."""

    prompt: str = NUMBERED_PROMPT
    disable_echo: bool = False
    interactive_services: frozenset[str] = frozenset({"sshd", "login"})
    max_attempts: int = 3
    permit_root: bool = False
    push_message: str = "Login to {gateway}"
    push_number: bool = True
    push_timeout: int = 60
    push_limit: int = 3
    push_window: int = 600
    poll_interval: int | None = None
    """A fixed pause between polls; None is the growing schedule of DESIGN §6."""
    without_second_factor: WithoutSecondFactor = WithoutSecondFactor.DENY
    account_push_timeout: int = 45
    explicit_mapping: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Lower-cased user name to external identity."""
