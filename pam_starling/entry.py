"""The file pam_python executes at every login: the hooks, and the last guard around each.

It is compiled anew each time, so it holds nothing else. The code lies beside it, in a versioned directory behind the
symlink ``current``, which is read once: an upgrade in the middle of a login changes nothing for that login.
"""

import posix
import sys

_here = __file__.rpartition("/")[0]
try:
    _code = _here + "/" + posix.readlink(_here + "/current")
except OSError:
    _code = _here.rpartition("/")[0]  # run from a source tree
sys.dont_write_bytecode = True
sys.path.insert(0, _code)

from pam_starling import login  # noqa: E402


def _hook(name):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    def hook(pamh, _flags, argv):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        try:
            result = login.run(name, pamh, argv[1:])
        except BaseException as error:  # noqa: BLE001  whatever it is, it refuses
            return login.give_up(name, error)
        return result if type(result) is int and result in login.RESULTS[name].values() else login.REFUSALS[name]

    return hook


pam_sm_authenticate, pam_sm_acct_mgmt = _hook("authenticate"), _hook("account")  # type: ignore[no-untyped-call]
pam_sm_open_session, pam_sm_close_session = _hook("open_session"), _hook("close_session")  # type: ignore[no-untyped-call]
# setcred grants nothing; chauthtok is none of our business.
pam_sm_setcred = lambda pamh, _flags, _argv: login.PAM_SUCCESS  # noqa: E731, ARG005
pam_sm_chauthtok = lambda pamh, _flags, _argv: login.PAM_IGNORE  # noqa: E731, ARG005
