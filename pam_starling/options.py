"""The arguments on the pam.d line. One that is not understood refuses: a misspelt option must not be a weaker one."""


LONGEST = 600
"""Seconds that an option may say at most."""


class OptionError(Exception):
    """An argument nobody knows, or a value that makes no sense; the text names it."""


class Options:
    """What the pam.d line says; times in seconds.

    ``services`` are the PAM services that may use the module, ``first_factor`` is ``before`` only in password mode,
    ``connect_timeout`` bounds the wait for a daemon that is starting, ``deadline`` the whole call.
    """

    __slots__ = ("connect_timeout", "deadline", "first_factor", "services", "socket")

    def __init__(self, service: str, arguments: "list[str]") -> None:
        given = {}
        for argument in arguments:
            name, equals, value = argument.partition("=")
            if not equals or not value or name in given or name not in self.__slots__:
                raise OptionError(f"argument not understood: {argument}")
            given[name] = value
        self.services = frozenset(given.get("services", "sshd,login").split(","))
        self.first_factor = given.get("first_factor", "")
        if self.first_factor not in ("", "before"):
            raise OptionError("first_factor can only be 'before'")
        self.connect_timeout = _seconds("connect_timeout", given.get("connect_timeout", "20"))
        # login kills itself after LOGIN_TIMEOUT, 60 seconds by default.
        self.deadline = _seconds("deadline", given.get("deadline", "50" if service == "login" else "100"))
        self.socket = given.get("socket", "/run/starlingd/pam.sock")


def _seconds(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= LONGEST):
        raise OptionError(f"{name} must be 1 to {LONGEST} seconds")
    return int(text)
