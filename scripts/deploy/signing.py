"""Signatures of bundles, by OpenSSH's `ssh-keygen -Y`: it is on nearly every machine, and needs no network.

The signature lies beside the archive and is of all of it, so that it is verified before anything is unpacked.
"""

import shutil
from pathlib import Path

from scripts.deploy import commands
from scripts.deploy.console import Console, DeployError

IDENTITY = "etl-poc"
"""Who signs bundles, in the file of those who may."""
NAMESPACE = "etl-poc-bundle"
"""What is signed: a signature of something else by the same key is none of a bundle."""


def signature_of(archive: Path) -> Path:
    """Where the signature of an archive is."""
    return archive.with_name(f"{archive.name}.sig")


def check_program() -> None:
    """Raises DeployError where signatures can be neither made nor verified."""
    if not shutil.which("ssh-keygen"):
        raise DeployError("ssh-keygen is not on PATH: install OpenSSH's client (Debian, Ubuntu: openssh-client).")


def sign(console: Console, archive: Path, key: Path) -> None:
    """Write the signature of an archive. Raises DeployError."""
    signature_of(archive).unlink(missing_ok=True)  # else it asks whether to overwrite it
    commands.run(["ssh-keygen", "-Y", "sign", "-n", NAMESPACE, "-f", str(key), str(archive)])
    console.say(f"Wrote {signature_of(archive)}.")


def verify(console: Console, archive: Path, signers: Path) -> None:
    """Refuse an archive that none of the signers has signed. Raises DeployError."""
    check_program()
    if archive.is_dir():
        raise DeployError(f"{archive} is a folder, and the archive is what is signed: give that with --signers.")
    signature = signature_of(archive)
    if not signature.is_file():
        raise DeployError(f"{archive} is not signed: there is no {signature}.")
    command = ["ssh-keygen", "-Y", "verify", "-f", str(signers), "-I", IDENTITY, "-n", NAMESPACE, "-s", str(signature)]
    with archive.open("rb") as content:
        said = commands.run_on(command, content)
    if said is not None:
        raise DeployError(
            f"{archive} is not what a signer in {signers} has signed ({said}). Nothing of it was unpacked: get it anew,"
            " from whoever made it."
        )
    console.say(f"The signature of {archive} is by a signer in {signers}.")
