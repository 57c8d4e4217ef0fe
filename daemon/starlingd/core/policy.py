"""Who is asked about whom: from an account to the identity that the provider knows.

Plain functions of values. Nothing here may ask anybody anything.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlingd.core.model import Account, Login
    from starlingd.core.rules import Rules

ROOT_RULE = "auth.permit_root"
CODE_LENGTHS = range(6, 13)
"""How many digits a one-time code has (SEMANTICS §13)."""
LONGEST_TYPED_CODE = 24
"""Longest answer, in bytes, that may still be a code with blanks in it."""

_CODE = re.compile(r"[0-9]{6,12}", re.ASCII)


def may_use_second_factor(account: Account | None, rules: Rules) -> bool:
    """Tell whether the provider may be asked about this account at all."""
    return account is not None and (account.uid != 0 or rules.permit_root)


def identity_of(login: Login, account: Account | None, rules: Rules) -> str | None:
    """Find the identity the provider is asked about, or None for nobody (SEMANTICS §6).

    A mapping may name the user as typed or the account's own name, so that no spelling of a name escapes it.
    """
    if account is None or not may_use_second_factor(account, rules):
        return None
    mapping = rules.explicit_mapping
    return mapping.get(login.user.lower()) or mapping.get(account.name.lower()) or account.name


def code_in(answer: str) -> str | None:
    """Find the code in what was typed: blanks dropped, 6 to 12 ASCII digits, else None."""
    code = "".join(answer.split())
    fits = len(answer.encode()) <= LONGEST_TYPED_CODE and _CODE.fullmatch(code)
    return code if fits else None


def might_be_code(answer: str) -> bool:
    """Tell by its length alone whether an answer could have been a code.

    sshd replaces what unknown users type by junk of the same length, so only the length may decide how long a wrong
    answer takes (FIELD-FACTS 14).
    """
    return CODE_LENGTHS.start <= len(answer.encode()) <= LONGEST_TYPED_CODE
