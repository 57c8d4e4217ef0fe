"""QR codes as text, by python3-qrcode: two rows of dots in one of characters, for terminals with a dark background.

Light dots are drawn and dark ones left out, with a quiet zone of two all around.
"""

from __future__ import annotations

import qrcode

QUIET_ZONE = 2
_HALVES = {(True, True): "\N{FULL BLOCK}", (True, False): "\N{UPPER HALF BLOCK}", (False, True): "\N{LOWER HALF BLOCK}"}


def draw(text: str) -> str:
    """Draw a text as a QR code of the lowest error correction: lines of UTF-8 half-blocks."""
    code = qrcode.QRCode(error_correction=qrcode.constants.ERROR_CORRECT_L, border=QUIET_ZONE)
    code.add_data(text.encode(), optimize=0)
    code.make()
    rows = [[not dark for dark in row] for row in code.get_matrix()]
    if len(rows) % 2:
        rows.append([False] * len(rows[0]))
    pairs = zip(rows[::2], rows[1::2], strict=True)
    return "\n".join("".join(_HALVES.get(pair, " ") for pair in zip(*both, strict=True)) for both in pairs)
