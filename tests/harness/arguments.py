"""The command lines of a container's processes: readable in /proc by every user of the node.

A shell script is not read but run, with a stub in the place of each command that it could mean, which writes down what
it is given.
"""

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SHELLS = ("bash", "sh")
_STUB = '#!/bin/sh\nprintf "%s\\0" "$0" "$@" >> "$ARGUMENTS_FILE"\nexec /bin/cat > /dev/null\n'
"""It reads its stdin, so that no writer gets SIGPIPE."""
_WORD = re.compile(r"[A-Za-z_][\w.-]*")
_REFERENCE = re.compile(r"\$(\$)?\((\w+)\)")


def value_of(name: str) -> str:
    """A placeholder for the value of a secret, recognized as a part of any longer text."""
    return f"the-secret-value-of-{name}-"


def expanded(text: str, environment: Mapping[str, str]) -> str:
    """As the kubelet puts variables into arguments and into other variables. Raises KeyError for an unknown one."""
    return _REFERENCE.sub(lambda found: found[0][1:] if found[1] else environment[found[2]], text)


def environment_of(plain: Mapping[str, str], secret: str) -> dict[str, str]:
    """Variables as a container has them, in their order; those with the value `secret` get one that is found again."""
    found: dict[str, str] = {}
    for name, value in plain.items():
        found[name] = value_of(name) if value == secret else expanded(value, found)
    return found


def commands_of(container: Mapping[str, Any]) -> list[list[str]]:
    """All that Kubernetes starts in a container: its own command, its probes, its hooks."""
    probes = [container.get(f"{name}Probe") or {} for name in ("startup", "readiness", "liveness")]
    hooks = list((container.get("lifecycle") or {}).values())
    own = [*container.get("command", []), *container.get("args", [])]
    return [own, *(one["exec"]["command"] for one in (*probes, *hooks) if one.get("exec"))]


def started_with(
    command: Sequence[str], environment: Mapping[str, str], folder: Path, files: "Mapping[str, str] | None" = None
) -> list[str]:
    """The arguments of the command and, if it is a shell script, of every command that this starts.

    `files` are the contents of scripts by the paths that they are mounted at; they and the stubs are put into `folder`.
    """
    words = [expanded(word, environment) for word in command]
    if not words or Path(words[0]).name not in SHELLS:
        return words
    said = folder / "arguments"
    said.touch()
    commands = folder / "commands"
    commands.mkdir()
    written = [_with_names(word) for word in words]
    for path, text in (files or {}).items():
        target = folder / Path(path).name
        target.write_text(_with_names(text))
        written = [str(target) if word == path else word for word in written]
    for name in {word for text in (*written[1:], *(files or {}).values()) for word in _WORD.findall(_with_names(text))}:
        stub = commands / name
        stub.write_text(_STUB)
        stub.chmod(0o755)
    shell = shutil.which(Path(words[0]).name) or words[0]
    ran = subprocess.run(
        [shell, *written[1:]], env={**environment, "PATH": str(commands), "ARGUMENTS_FILE": str(said)},
        cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, f"{words} could not be followed: {ran.stderr}"
    # Its output as well: a secret in a log is no better.
    return [*words, *said.read_text().split("\0"), ran.stdout, ran.stderr]


def _with_names(text: str) -> str:
    """Absolute paths of the image's commands replaced by their names, as on PATH."""
    return re.sub(r"(?<![\w.$}])(?:/[\w.-]+)*/s?bin/([\w.-]+)", r"\1", text)


def leaks(arguments: Sequence[str], names: Sequence[str]) -> set[str]:
    """The secrets that are among the arguments."""
    return {name for name in names if any(value_of(name) in word for word in arguments)}


def scratch(environment: Mapping[str, str], folder: Path) -> dict[str, str]:
    """The variables, those that name a folder of data with one that is there, or that commands would have made."""
    data = folder / "data"
    data.with_suffix(".new").mkdir()
    return {
        name: str(data) if name == "PGDATA" else str(folder) if name.endswith("_FOLDER") else value
        for name, value in environment.items()
    }
