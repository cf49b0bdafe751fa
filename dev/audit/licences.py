"""Licences of the packages in the images, from their metadata, checked against those allowed."""

import re
from collections.abc import Iterable
from importlib import metadata

ALLOWED = frozenset({
    "Apache-2.0", "Apache Software License", "BSD License", "BSD-2-Clause", "BSD-3-Clause", "3-Clause BSD License",
    "0BSD", "CC0-1.0", "Zlib",
    "ISC", "ISC License (ISCL)", "MIT", "MIT License", "MIT-0", "PSF-2.0", "Python Software Foundation License",
    "The Unlicense (Unlicense)",
    # They require the source of changes to the package; there are none.
    "MPL-2.0", "Mozilla Public License 2.0 (MPL 2.0)", "LGPL-3.0-only", "GNU LESSER GENERAL PUBLIC LICENSE",
    "GNU Library or Lesser General Public License (LGPL)",
})  # fmt: skip
"""Allowed licences, as packages write them."""
LOOKED_AT = {
    "mssql-python": "MIT License",  # from its file LICENSE; not in its metadata
    "mssql-python-odbc": "Microsoft ODBC Driver 18 for SQL Server",
    "pyrage": "MIT License",  # from its file LICENSE; not in its metadata
    "pyyaml-ft": "MIT",  # not installed before Python 3.13
    "text-unidecode": "Artistic License",  # or the GPL
}
"""Licences of packages without a usable one in their metadata, read from the packages."""
PROPRIETARY = frozenset({"Microsoft ODBC Driver 18 for SQL Server"})
"""Allowed, on the terms in docs/supply-chain.md."""


def licence(package: str) -> str:
    """The licence of an installed package, as it writes it; empty if it names none."""
    if package in LOOKED_AT:
        return LOOKED_AT[package]
    try:
        found = metadata.metadata(package)
    except metadata.PackageNotFoundError:
        return ""
    classifiers = [each.split(" :: ")[-1] for each in found.get_all("Classifier", []) if each.startswith("License")]
    for named in (*found.get_all("License-Expression", []), "; ".join(classifiers), *found.get_all("License", [])):
        if named.strip():
            return str(named).strip().splitlines()[0]
    return ""


def is_allowed(named: str) -> bool:
    """Whether packages with this licence may be distributed."""
    parts = re.split(r" AND | OR |; ", named.replace("(", "").replace(")", ""))
    plain = {each.replace("(", "").replace(")", "") for each in ALLOWED | PROPRIETARY | {"Artistic License"}}
    return all(part in plain for part in parts)


def refused(packages: Iterable[str]) -> dict[str, str]:
    """The packages with a licence that is not allowed or not known, and that licence."""
    licences = {package: licence(package) for package in sorted(packages)}
    return {package: named for package, named in licences.items() if not is_allowed(named)}
