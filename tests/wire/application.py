"""A PAM application whose conversation does what no decent one does; run as a program, by tests.

The one argument is JSON: service, user, operation, and answer: ``null`` for NULL, ``refuse`` for PAM_CONV_ERR at a
prompt, ``refuse all`` for PAM_CONV_ERR at every message, otherwise the bytes in hexadecimal. A ``note`` is written to
the system's log in the end. Prints JSON: the result and the messages. pam_python runs in the interpreter of this
program, so libpam is called with its lock held (PyDLL).
"""

import ctypes
import json
import signal
import sys

PAM_CONV_ERR = 19
PAM_PROMPT_ECHO_ON = 2
LOG_AUTHPRIV_NOTICE = 10 << 3 | 5

libc = ctypes.CDLL("libc.so.6")
libc.calloc.restype = libc.strdup.restype = ctypes.c_void_p
pam = ctypes.PyDLL("libpam.so.0")


class Message(ctypes.Structure):
    """struct pam_message."""

    _fields_ = (("style", ctypes.c_int), ("text", ctypes.c_char_p))


class Response(ctypes.Structure):
    """struct pam_response."""

    _fields_ = (("resp", ctypes.c_void_p), ("code", ctypes.c_int))


Converse = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_int,
    ctypes.POINTER(ctypes.POINTER(Message)),
    ctypes.POINTER(ctypes.c_void_p),
    ctypes.c_void_p,
)


class Conversation(ctypes.Structure):
    """struct pam_conv."""

    _fields_ = (("converse", Converse), ("data", ctypes.c_void_p))


def main() -> None:
    asked = json.loads(sys.argv[1])
    messages: list[str] = []

    @Converse
    def converse(count: int, given, responses, _data) -> int:  # type: ignore[no-untyped-def]  # noqa: ANN001
        assert count == 1
        message = given[0].contents
        messages.append(message.text.decode())
        prompt = message.style <= PAM_PROMPT_ECHO_ON
        if asked["answer"] == "refuse all" or (prompt and asked["answer"] == "refuse"):
            return PAM_CONV_ERR
        answers = ctypes.cast(libc.calloc(1, ctypes.sizeof(Response)), ctypes.POINTER(Response))
        if prompt and asked["answer"] is not None:
            answers[0].resp = libc.strdup(bytes.fromhex(asked["answer"]))
        responses[0] = ctypes.cast(answers, ctypes.c_void_p)
        return 0

    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    conversation, handle = Conversation(converse, None), ctypes.c_void_p()
    started = pam.pam_start(
        asked["service"].encode(), asked["user"].encode(), ctypes.byref(conversation), ctypes.byref(handle)
    )
    assert started == 0
    result = getattr(pam, "pam_" + asked["operation"])(handle, 0)
    pam.pam_end(handle, result)
    if "note" in asked:
        libc.syslog(LOG_AUTHPRIV_NOTICE, b"%s", asked["note"].encode())
    print(json.dumps({"result": result, "shown": messages}))


main()
