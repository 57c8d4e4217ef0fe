"""Telephone numbers in the one form the service takes, by the phonenumbers library."""

from __future__ import annotations

import phonenumbers


class Phones:
    """``ports.Phones``. Safe from any thread."""

    def normalise(self, text: str, region: str) -> str | None:
        """Write a number as ``+``, country code and digits; None when it is not unambiguously one.

        ``region`` is the ISO 3166 region of national numbers; without one only international numbers are understood.
        """
        try:
            number = phonenumbers.parse(text, region or None)
        except phonenumbers.NumberParseException:
            return None
        if number.extension or not phonenumbers.is_valid_number(number):
            return None
        return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
