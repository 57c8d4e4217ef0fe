"""From valid values of the file to the Rules that a login runs by."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from starlingd.config import directory, lists, questions
from starlingd.config.sections import (
    ACCOUNT,
    AUTH,
    CONNECTION_LIMIT,
    EXPLICIT_MAPPING,
    GRACE,
    STARLING,
    TOTP,
    TRANSFORM,
)
from starlingd.config.spswords import service
from starlingd.core.rules import (
    CODE_PROMPT,
    NUMBERED_PROMPT,
    VENDOR_PROMPT,
    Apps,
    Grace,
    GroupList,
    NetworkList,
    Provider,
    Rules,
    UserList,
)

if TYPE_CHECKING:
    from starlingd.config.schema import Values


def make(values: Values) -> Rules:
    """Make the rules of values about which there is no problem."""
    starling, auth, account, totp = values[STARLING], values[AUTH], values[ACCOUNT], values[TOTP]
    mapping = {user: identity for user, identity in values[EXPLICIT_MAPPING].users if identity}
    return Rules(
        prompt=auth.prompt or _prompt(values),
        disable_echo=auth.disable_echo,
        interactive_services=frozenset(filter(None, map(service, auth.interactive_protocols))),
        max_attempts=auth.max_attempts,
        permit_root=auth.permit_root,
        push_message=auth.push_message,
        push_number=auth.push_number,
        push_timeout=starling.timeout,
        push_limit=auth.push_limit,
        push_window=auth.push_window,
        poll_interval=starling.rest_poll_interval,
        without_second_factor=account.without_second_factor,
        account_push_timeout=account.push_timeout,
        explicit_mapping=MappingProxyType(mapping),
        mapping_attribute=values[directory.DIRECTORY_MAPPING].user_attribute or "",
        on_mapping_failure=auth.on_mapping_failure,
        append_domain=values[TRANSFORM].append_domain,
        break_glass=frozenset(values[lists.BY_USER_LIST].break_glass),
        user_list=_user_list(values),
        networks=_networks(values),
        groups=_groups(values),
        exempt_result=auth.exempt_result,
        grace=_grace(values),
        connection_limit=values[CONNECTION_LIMIT].limit,
        questions=questions.asked(values),
        fail_mode=auth.fail_mode,
        fail_open_users=frozenset(auth.fail_open_users) or None,
        observe_until=auth.enforce,
        max_failures=auth.max_failures,
        failure_window=auth.failure_window,
        not_enrolled=auth.not_enrolled,
        directory=directory.policy(values),
        provisioning=directory.provisioning(values),
        provider=auth.provider,
        fallback=auth.fallback,
        enrol_qr=auth.enrol_qr,
        apps=Apps(totp.algorithm, totp.digits, totp.step, totp.window),
    )


def _prompt(values: Values) -> str:
    auth = values[AUTH]
    if auth.provider is Provider.TOTP:
        return CODE_PROMPT
    return NUMBERED_PROMPT if auth.push_number else VENDOR_PROMPT


def _user_list(values: Values) -> UserList | None:
    name = values[lists.BY_USER_LIST].name
    form = values.each(lists.USER_LIST).get(name or "")
    if name is None or form is None or form.allow is None or form.except_ is None:
        return None
    return UserList(name, form.allow, frozenset(form.except_))


def _networks(values: Values) -> NetworkList | None:
    form = values[lists.BY_NETWORK]
    return None if form.allow is None or form.except_ is None else NetworkList(form.allow, form.except_)


def _groups(values: Values) -> GroupList | None:
    form = values[lists.BY_GROUP]
    return None if form.allow is None or form.except_ is None else GroupList(form.allow, form.except_)


def _grace(values: Values) -> Grace:
    form = values[GRACE]
    return Grace(form.soft_timeout, form.hard_timeout, form.reuse_limit, form.bind)
