"""The arguments on the pam.d line. One that is not understood refuses: a misspelt option must not be a weaker one."""

from pam_starling.client import Refusal

SECONDS = [str(seconds) for seconds in range(1, 601)]
"""What an option may say that is a time."""


class Options:
    """What the pam.d line says; times in seconds. Raises Refusal for what it cannot mean, or not for this service.

    ``services`` are the PAM services that may use the module, ``first_factor`` is ``before`` only in password mode,
    ``connect_timeout`` bounds the wait for a daemon that is starting, ``deadline`` the whole call.
    """

    def __init__(self, service: str, arguments: "list[str]") -> None:
        # login kills itself after LOGIN_TIMEOUT, 60 seconds by default.
        known = {"services": "sshd,login", "first_factor": "", "socket": "/run/starlingd/pam.sock"}
        known |= {"connect_timeout": "20", "deadline": "50" if service == "login" else "100"}
        given = dict(argument.partition("=")[::2] for argument in arguments)
        if len(given) < len(arguments) or not given.keys() <= known.keys() or not all(given.values()):
            raise Refusal("arguments of the pam.d line not understood: " + " ".join(arguments))
        given = known | given
        self.service, self.first_factor, self.socket = service, given["first_factor"], given["socket"]
        if given["connect_timeout"] not in SECONDS or given["deadline"] not in SECONDS:
            raise Refusal("times on the pam.d line must be 1 to 600 seconds")
        self.connect_timeout, self.deadline = int(given["connect_timeout"]), int(given["deadline"])
        if self.first_factor not in ("", "before") or not self.socket.startswith("/"):
            raise Refusal("first_factor= or socket= of the pam.d line makes no sense")
        if not service or service not in given["services"].split(","):
            raise Refusal(f"the PAM service {service} is not among services=")
