"""Secrets: generated once, never overwritten, never shown, never on a command line.

Generated values are also kept beside the data, readable by root only: data without its passwords is lost, and
`kubectl delete -k` deletes the Secrets with the namespace.
"""

import base64
import json
import secrets
import signal
import string
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ops.cluster.console import Console, DeployError
from ops.cluster.kubectl import Kubectl
from ops.cluster.objects import new
from ops.cluster.secret_keys import GENERATED, SECRET_NAMESPACES, SINK_ADMIN, Key, Kind, namespace_of

KEPT_FILE = "generated-secrets.json"
_LENGTH = 32
_CLASSES = (string.ascii_lowercase, string.ascii_uppercase, string.digits, "-_.")
_LIST_KEYS = '{{range .items}}{{.metadata.name}}{{range $key, $value := .data}} {{$key}}{{end}}{{"\\n"}}{{end}}'


def password() -> str:
    """A password with all four character classes of SQL Server's policy, safe in URLs and connection strings."""
    while True:
        chosen = secrets.choice(string.ascii_letters)
        chosen += "".join(secrets.choice("".join(_CLASSES)) for _ in range(_LENGTH - 1))
        if all(set(chosen) & set(one) for one in _CLASSES):
            return chosen


def fernet_key() -> str:
    """A key for Fernet: 32 bytes."""
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


def signing_key() -> str:
    """A key to sign tokens with: 64 bytes."""
    return secrets.token_urlsafe(64)


_GENERATORS: dict[Kind, Callable[[], str]] = {
    Kind.PASSWORD: password,
    Kind.FERNET_KEY: fernet_key,
    Kind.SIGNING_KEY: signing_key,
}
GUARDS = {"mssql": SINK_ADMIN}
"""Data folders that need their old password. PostgreSQL's roles get new ones at its start."""


def existing_keys(kubectl: Kubectl) -> set[Key]:
    """The keys of existing Secrets. Values are not read."""
    found: set[Key] = set()
    for namespace in SECRET_NAMESPACES:
        lines = kubectl.run("--namespace", namespace, "get", "secrets", f"--output=go-template={_LIST_KEYS}")
        for name, *keys in map(str.split, filter(None, lines.splitlines())):
            found |= {(name, key) for key in keys if namespace_of(name) == namespace}
    return found


def read_kept(folder: Path) -> dict[Key, str]:
    """The values that an earlier deployment with the same data generated. Raises DeployError if the file is invalid."""
    file = folder / KEPT_FILE
    try:
        kept = json.loads(file.read_text())
        return {(name, key): str(value) for name, keys in kept.items() for key, value in keys.items()}
    except (FileNotFoundError, PermissionError):
        return {}
    except (ValueError, AttributeError):
        raise DeployError(f"{file} is not what was written there; restore it from a backup, or remove it.") from None


def ensure_secrets(console: Console, kubectl: Kubectl, given: Mapping[Key, str | None], folder: Path | None) -> None:
    """Add missing keys: those in `given` with a value, and generated ones.

    `folder` keeps generated values; None if the data is on another machine.
    """
    there = existing_keys(kubectl)
    kept = read_kept(folder) if folder else {}
    added = {key: kept.get(key) or _GENERATORS[kind]() for key, kind in GENERATED.items() if key not in there}
    if folder and added.keys() - kept.keys():
        _keep(folder, kept | added)
    for key, value in given.items():
        if value is not None and key not in there:
            added[key] = value
        elif value is not None:
            console.warn(
                f"{key[1]} stays as it is in the Secret {key[0]}; to change it, edit that Secret and restart what uses"
                " it."
            )
    for name in sorted({name for name, _ in added}):
        data = {
            key: base64.b64encode(value.encode()).decode() for (owner, key), value in added.items() if owner == name
        }
        if name in {owner for owner, _ in there}:
            _add(kubectl, name, data)
        else:
            _create(kubectl, name, data)
        console.say(f"Secret {name}: added {', '.join(sorted(data))}.")


@contextmanager
def temporary_secret(kubectl: Kubectl, name: str, values: dict[str, str]) -> Iterator[None]:
    """A Secret that exists during the block, and replaces one of an earlier attempt.

    It is also deleted if the terminal disconnects, as with a broken SSH session: that interrupts the block like Ctrl-C.
    """
    flags = ("--namespace", namespace_of(name), "delete", "secret", name, "--ignore-not-found")
    kubectl.run(*flags)
    before = {each: signal.signal(each, signal.default_int_handler) for each in (signal.SIGHUP, signal.SIGTERM)}
    try:
        _create(kubectl, name, {key: base64.b64encode(value.encode()).decode() for key, value in values.items()})
        yield
    finally:
        kubectl.run(*flags)
        for each, handler in before.items():
            signal.signal(each, handler)


def _create(kubectl: Kubectl, name: str, data: dict[str, str]) -> None:
    secret = new("Secret", name, namespace_of(name), type="Opaque", data=data)
    kubectl.run("create", "--filename=-", stdin=json.dumps(secret), hide=data.values())


def _add(kubectl: Kubectl, name: str, data: dict[str, str]) -> None:
    """Add keys, unless the Secret was changed meanwhile."""
    template = "--output=go-template={{.metadata.resourceVersion}}"
    version = kubectl.run("--namespace", namespace_of(name), "get", "secret", name, template)
    patch = json.dumps({"metadata": {"resourceVersion": version.strip()}, "data": data})
    arguments = ("--namespace", namespace_of(name), "patch", "secret", name, "--type=merge", "--patch-file=/dev/stdin")
    kubectl.run(*arguments, stdin=patch, hide=data.values())


def _keep(folder: Path, values: dict[Key, str]) -> None:
    nested: dict[str, dict[str, str]] = {}
    for (name, key), value in sorted(values.items()):
        nested.setdefault(name, {})[key] = value
    new = folder / f"{KEPT_FILE}.new"
    new.unlink(missing_ok=True)
    new.touch(mode=0o600, exist_ok=False)
    new.write_text(json.dumps(nested, indent=2))
    new.replace(folder / KEPT_FILE)
