"""Signatures of bundles, by OpenSSH's `ssh-keygen -Y`: installed nearly everywhere, and offline.

The signature is a separate file and covers the whole archive, so that it is verified before anything is unpacked.
"""

import shutil
from pathlib import Path

from ops.cluster import processes
from ops.cluster.console import Console, DeployError

IDENTITY = "etl-poc"
"""The principal in the file of allowed signers."""
NAMESPACE = "etl-poc-bundle"
"""The namespace of the signature: a signature for another purpose by the same key is not valid for a bundle."""


def signature_of(archive: Path) -> Path:
    """The path of the signature of an archive."""
    return archive.with_name(f"{archive.name}.sig")


def check_program() -> None:
    """Raises DeployError if ssh-keygen is not installed."""
    if not shutil.which("ssh-keygen"):
        raise DeployError("ssh-keygen is not on PATH: install OpenSSH's client (Debian, Ubuntu: openssh-client).")


def sign(console: Console, archive: Path, key: Path) -> None:
    """Write the signature of an archive. Raises DeployError."""
    signature_of(archive).unlink(missing_ok=True)  # else it asks whether to overwrite it
    processes.run(["ssh-keygen", "-Y", "sign", "-n", NAMESPACE, "-f", str(key), str(archive)])
    console.say(f"Wrote {signature_of(archive)}.")


def verify(console: Console, archive: Path, signers: Path) -> None:
    """Raises DeployError unless one of the signers has signed the archive."""
    check_program()
    if archive.is_dir():
        raise DeployError(f"{archive} is a folder; only the archive is signed: give the archive with --signers.")
    signature = signature_of(archive)
    if not signature.is_file():
        raise DeployError(f"{archive} is not signed: there is no {signature}.")
    command = ["ssh-keygen", "-Y", "verify", "-f", str(signers), "-I", IDENTITY, "-n", NAMESPACE, "-s", str(signature)]
    with archive.open("rb") as content:
        error = processes.run_on(command, content)
    if error is not None:
        raise DeployError(
            f"{archive} has no valid signature of a signer in {signers} ({error}). Nothing was unpacked; get the"
            " archive and its signature again from their source."
        )
    console.say(f"The signature of {archive} is by a signer in {signers}.")
