"""The file pam_python executes: the hooks, and the last guard around each.

It is compiled anew at every login, so it holds nothing else. The code lies beside it, in a versioned directory behind
the symlink ``current``, resolved once: an upgrade in the middle of a login changes nothing for that login. An upgrade
replaces this file first, so it must go on asking the code for ``login.run`` and for nothing else.
"""

import os
import sys

_code = os.path.realpath(os.path.dirname(__file__) + "/current")  # noqa: PTH120  pathlib is heavy
sys.path.insert(0, _code if os.access(_code, os.R_OK) else _code.rsplit("/", 2)[0])  # else we are in a source tree


def _hook(name: str, refusal: int, *others: int):  # type: ignore[no-untyped-def]  # noqa: ANN202  typing is heavy
    """Make the hook ``name``, which answers ``refusal``, or one of ``others`` (<security/_pam_types.h>)."""

    def hook(pamh, _flags: int, argv: list[str]) -> int:  # type: ignore[no-untyped-def]  # noqa: ANN001
        try:
            from pam_starling import login  # noqa: PLC0415  inside the guard: half an installation refuses

            result = login.run(name, pamh, argv[1:])
            if type(result) is int and result in (refusal, *others):  # not a bool: False is PAM_SUCCESS
                return result
            why = "a bug: a result out of place"
        except BaseException as error:  # noqa: BLE001  whatever it is, it refuses
            why = getattr(error, "why", "a bug: " + type(error).__name__)
        import syslog  # noqa: PLC0415  only refusals pay for it

        syslog.openlog("pam_starling", syslog.LOG_PID, syslog.LOG_AUTHPRIV)
        syslog.syslog(syslog.LOG_WARNING, f"{name} {'refused' if refusal else 'not recorded'}: {why}")
        syslog.closelog()  # what the application logs next is not ours
        return refusal

    return hook


pam_sm_authenticate, pam_sm_acct_mgmt = _hook("authenticate", 7, 0, 11, 25), _hook("account", 6, 0, 25)
pam_sm_open_session, pam_sm_close_session = _hook("open_session", 14, 0), _hook("close_session", 0)
pam_sm_setcred, pam_sm_chauthtok = lambda *_: 0, lambda *_: 25  # the one grants nothing, the other is not our business
