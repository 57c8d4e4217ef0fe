"""What pam_python hands to a hook, as far as this package uses it; for the type checker alone."""

from collections.abc import MutableMapping

class Response:
    resp: str | None

class Handle:
    """Reading a text raises UnicodeDecodeError when it is not UTF-8. Never hand a lone surrogate in: it crashes."""

    exception: type[Exception]
    service: str | None
    rhost: str | None
    tty: str | None
    env: MutableMapping[str, str]
    def get_user(self, prompt: str | None) -> str | None: ...
    def Message(self, style: int, text: str) -> object: ...  # noqa: N802  pam_python's name
    def conversation(self, message: object) -> Response: ...
