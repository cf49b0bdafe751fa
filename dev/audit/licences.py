"""The licences of what the images bring, from the packages' own metadata, against those that are allowed."""

import re
from collections.abc import Iterable
from importlib import metadata

ALLOWED = frozenset({
    "Apache-2.0", "Apache Software License", "BSD License", "BSD-2-Clause", "BSD-3-Clause", "3-Clause BSD License",
    "ISC", "ISC License (ISCL)", "MIT", "MIT License", "MIT-0", "PSF-2.0", "Python Software Foundation License",
    "The Unlicense (Unlicense)",
    # They ask for the source of what is changed in the package itself; here nothing is.
    "MPL-2.0", "Mozilla Public License 2.0 (MPL 2.0)", "LGPL-3.0-only", "GNU LESSER GENERAL PUBLIC LICENSE",
    "GNU Library or Lesser General Public License (LGPL)",
})  # fmt: skip
"""As packages write them."""
LOOKED_AT = {
    "mssql-python": "MIT License",  # in its file LICENSE; its metadata says nothing
    "mssql-python-odbc": "Microsoft ODBC Driver 18 for SQL Server",
    "pyrage": "MIT License",  # in its file LICENSE; its metadata says nothing
    "pyyaml-ft": "MIT",  # not installed before Python 3.13
    "text-unidecode": "Artistic License",  # or the GPL, as one likes
}
"""Packages whose metadata do not say it, or more than one needs to know: what a person has read in them."""
PROPRIETARY = frozenset({"Microsoft ODBC Driver 18 for SQL Server"})
"""Allowed, on the terms that docs/supply-chain.md tells."""


def licence(package: str) -> str:
    """The licence of an installed package, as it writes it; empty where it says nothing."""
    if package in LOOKED_AT:
        return LOOKED_AT[package]
    try:
        found = metadata.metadata(package)
    except metadata.PackageNotFoundError:
        return ""
    classifiers = [each.split(" :: ")[-1] for each in found.get_all("Classifier", []) if each.startswith("License")]
    for said in (*found.get_all("License-Expression", []), "; ".join(classifiers), *found.get_all("License", [])):
        if said.strip():
            return str(said).strip().splitlines()[0]
    return ""


def is_allowed(said: str) -> bool:
    """Whether one may pass on what has this licence."""
    parts = re.split(r" AND | OR |; ", said.replace("(", "").replace(")", ""))
    plain = {each.replace("(", "").replace(")", "") for each in ALLOWED | PROPRIETARY | {"Artistic License"}}
    return all(part in plain for part in parts)


def refused(packages: Iterable[str]) -> dict[str, str]:
    """The packages whose licence is not allowed or not known, with what they say."""
    said = {package: licence(package) for package in sorted(packages)}
    return {package: words for package, words in said.items() if not is_allowed(words)}
