"""Parts of URLs."""

from __future__ import annotations

from urllib.parse import quote

from starlingd.ports import Fault, Unavailable
from starlingd.web.budget import PORT


def base(url: str) -> str:
    """Take an ``https://host[:port]`` without the slash at its end; raises Unavailable(MISCONFIGURED)."""
    if not url.startswith("https://"):
        raise Unavailable(PORT, Fault.MISCONFIGURED, "a URL of the service is not https://")
    return url.rstrip("/")


def encoded(text: str) -> str:
    """Percent-encode ``text`` for one path segment or one query value, whatever it holds."""
    made = quote(text, safe="", errors="surrogatepass")
    return made.replace(".", "%2E") if made in {".", ".."} else made
