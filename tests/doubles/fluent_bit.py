"""A model of Fluent Bit: interprets its configuration by its manual, on recorded lines.

No Fluent Bit runs here: it cannot be had from a package registry. So this shows that the patterns fit what containerd
writes, that a line goes one way only, and what Loki gets of it; not that Fluent Bit reads the configuration so. Nothing
is here of time: how files are found, renamed and forgotten, what waits in memory and on disk, what is tried again,
thrown away or stopped when Loki, the disk or Fluent Bit fail: tests/integration/test_fluent_bit_real.py does that.
"""

import fnmatch
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

Record = dict[str, Any]
# Fluent Bit's built-in multiline parser `cri`.
_CRI = re.compile(r"^(?P<time>.+?) (?P<stream>stdout|stderr) (?P<_p>F|P) (?P<log>.*)$")


@dataclass(frozen=True)
class Sent:
    """A line as Loki would get it."""

    labels: dict[str, str]
    metadata: dict[str, str]
    line: str


class Pipeline:
    """The pipeline of a Fluent Bit configuration."""

    def __init__(self, file: Path, environment: dict[str, str]) -> None:
        text = file.read_text()
        for name, value in environment.items():
            text = text.replace(f"${{{name}}}", value)
        self.content: Record = yaml.safe_load(text)
        self._parsers = {parser["name"]: parser for parser in self.content["parsers"]}

    def plugins(self, kind: str) -> list[Record]:
        """The inputs, filters or outputs."""
        return list(self.content["pipeline"][kind])

    def readers(self, path: str) -> list[Record]:
        """The inputs that read a file."""
        tails = [plugin for plugin in self.plugins("inputs") if plugin["name"] == "tail"]
        return [
            plugin
            for plugin in tails
            if any(PurePosixPath(path).match(pattern) for pattern in plugin["path"].split(","))
            and not any(fnmatch.fnmatch(path, pattern) for pattern in plugin.get("exclude_path", "").split(","))
        ]

    def container_lines(self, path: str, text: str) -> list[Sent]:
        """A container's log as sent to Loki, in order."""
        found: list[Sent] = []
        for plugin in self.readers(path):
            named = {plugin["path_key"]: path} if "path_key" in plugin else {}
            for record in _joined(text):
                found += self.send(plugin["tag"], record | named)
        return found

    def send(self, tag: str, record: Record) -> Iterator[Sent]:
        """One record as sent to Loki."""
        found: Record | None = dict(record)
        for plugin in self._matching("filters", tag):
            if found is not None and (again := _new_tag(plugin, found)):
                yield from self.send(again, found)
                return
            if found is not None:
                found = self._filter(plugin, found)
        for plugin in self._matching("outputs", tag) if found is not None else ():
            yield _sent(plugin, dict(found or {}))

    def _matching(self, kind: str, tag: str) -> list[Record]:
        return [plugin for plugin in self.plugins(kind) if fnmatch.fnmatchcase(tag, plugin["match"])]

    def _filter(self, plugin: Record, record: Record) -> Record | None:
        match plugin["name"]:
            case "grep":
                key, _, pattern = plugin["regex"].partition(" ")
                return record if re.search(pattern, str(record.get(key, ""))) else None
            case "rewrite_tag":
                return record  # the tag stays
            case "modify":
                return {key: value for key, value in record.items() if key not in plugin["remove"]}
            case "record_modifier":
                return {key: value for key, value in record.items() if key in plugin["allowlist_key"]}
            case "parser":
                return _parsed(record, plugin, self._parsers[plugin["parser"]])
        raise ValueError(f"What the filter {plugin['name']} does is not known here.")


def _new_tag(plugin: Record, record: Record) -> str | None:
    """The tag under which a record re-enters the pipeline."""
    if plugin["name"] != "rewrite_tag":
        return None
    key, pattern, tag, _keep = plugin["rule"].split(" ")
    return str(tag) if re.search(pattern, translated(key, record)) else None


def _joined(text: str) -> Iterator[Record]:
    """The lines as the container printed them: a long one is written in parts."""
    begun: dict[str, str] = {}
    for line in text.splitlines():
        found = _CRI.match(line)
        assert found, f"containerd does not write so: {line}"
        record = found.groupdict()
        begun[record["stream"]] = begun.get(record["stream"], "") + record["log"]
        if record["_p"] == "F":
            yield record | {"log": begun.pop(record["stream"])}


def _parsed(record: Record, plugin: Record, parser: Record) -> Record:
    """The fields that a parser finds in a key, and the rest of the record; unchanged if it does not match."""
    key = plugin["key_name"]
    fields = _FORMATS[parser["format"]](parser, str(record.get(key, "")))
    if fields is None:
        return record
    kept = record if plugin.get("reserve_data") else {}
    return {name: value for name, value in kept.items() if name != key or plugin.get("preserve_key")} | fields


def _json(_parser: Record, text: str) -> Record | None:
    try:
        fields = json.loads(text)
    except ValueError:
        return None
    return fields if isinstance(fields, dict) else None


def _regex(parser: Record, text: str) -> Record | None:
    found = re.search(parser["regex"].replace("(?<", "(?P<"), text)
    return {name: value for name, value in found.groupdict().items() if value} if found else None


_FORMATS = {"json": _json, "regex": _regex}


def _sent(plugin: Record, record: Record) -> Sent:
    named = {kind: _pairs(plugin.get(kind, "")) for kind in ("labels", "structured_metadata")}
    values = {
        kind: {name: value for name, text in pairs.items() if (value := translated(text, record))}
        for kind, pairs in named.items()
    }
    # Fields that become labels or metadata are removed from the line.
    for text in [text for pairs in named.values() for text in pairs.values()]:
        record.pop(text.removeprefix("$"), None)
    (only,) = record.values() if len(record) == 1 else (None,)
    raw = plugin.get("drop_single_key") == "raw" and isinstance(only, str)
    return Sent(values["labels"], values["structured_metadata"], str(only) if raw else json.dumps(record))


def _pairs(text: str) -> dict[str, str]:
    return dict(pair.strip().split("=", 1) for pair in text.split(",") if pair.strip())


def translated(text: str, record: Record) -> str:
    """The value of a label: a literal, or the content of a field; empty for a missing one."""
    value = record.get(text[1:]) if text.startswith("$") else text
    return "" if value is None else str(value)
