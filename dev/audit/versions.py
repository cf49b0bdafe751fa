"""Comparison of versions by the rules of their ecosystems."""

import re
from itertools import zip_longest

from packaging.version import InvalidVersion, Version

_PARTS = re.compile(r"(\D*)(\d*)")


def compare(ecosystem: str, one: str, other: str) -> int:
    """Negative if the first version is earlier, positive if it is later. "0" is before all."""
    if "0" in (one, other):
        return (one != "0") - (other != "0")
    if ecosystem == "PyPI":
        first, second = _python(one), _python(other)
        return (first > second) - (first < second)
    return compare_debian(one, other)


def compare_debian(one: str, other: str) -> int:
    """Compare like `dpkg --compare-versions` (deb-version(7))."""
    for first, second in zip(_split(one), _split(other), strict=True):
        pairs = zip_longest(_PARTS.findall(first), _PARTS.findall(second), fillvalue=("", ""))
        for (text, number), (other_text, other_number) in pairs:
            found = _compare_texts(text, other_text) or int(number or 0) - int(other_number or 0)
            if found:
                return found
    return 0


def _python(text: str) -> Version:
    try:
        return Version(text)
    except InvalidVersion:
        return Version("0")


def _split(version: str) -> tuple[str, str, str]:
    """Epoch, version and revision."""
    epoch, colon, rest = version.partition(":")
    if not colon:
        epoch, rest = "0", version
    upstream, hyphen, revision = rest.rpartition("-")
    return (epoch, upstream, revision) if hyphen else (epoch, rest, "0")


def _compare_texts(one: str, other: str) -> int:
    """Compare non-digits: letters before other characters, `~` before everything, even the end."""
    for first, second in zip_longest(one, other, fillvalue=""):
        difference = _weight(first) - _weight(second)
        if difference:
            return difference
    return 0


def _weight(sign: str) -> int:
    if sign == "~":
        return -1
    return 0 if not sign else ord(sign) if sign.isalpha() else ord(sign) + 256
