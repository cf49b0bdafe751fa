"""Reads Fluent Bit's configuration as its manual says, and does on recorded lines what it says there.

No Fluent Bit runs here: it cannot be had from a package registry. So this shows that the patterns fit what containerd
writes, that a line goes one way only, and that every key that is used is there; not that Fluent Bit reads it so.
"""

import fnmatch
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Record = dict[str, Any]
# Both as they are in Fluent Bit: its multiline parser `cri`, and what its kubernetes filter makes of a file's name.
_CRI = re.compile(r"^(?P<time>.+?) (?P<stream>stdout|stderr) (?P<_p>F|P) (?P<log>.*)$")
_FILE = re.compile(
    r"(?P<pod_name>[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*)"
    r"_(?P<namespace_name>[^_]+)_(?P<container_name>.+)-(?P<docker_id>[a-z0-9]{64})\.log$"
)
_ACCESSOR = re.compile(r"\$(\w+)((?:\['[^']+'\])*)")


@dataclass(frozen=True)
class Sent:
    """A line as Loki would get it."""

    labels: dict[str, str]
    metadata: dict[str, str]
    line: str


class Pipeline:
    """What a configuration does with lines."""

    def __init__(self, file: Path) -> None:
        self.content: Record = yaml.safe_load(file.read_text())
        self._parsers = {parser["name"]: parser for parser in self.content["parsers"]}

    def plugins(self, kind: str) -> list[Record]:
        """The inputs, filters or outputs."""
        return list(self.content["pipeline"][kind])

    def tags(self, path: str) -> list[str]:
        """The tags that a file's lines get, one for each input that reads it."""
        found = []
        for plugin in self.plugins("inputs"):
            if plugin["name"] == "tail" and fnmatch.fnmatch(path, plugin["path"]):
                excluded = plugin.get("exclude_path", "").split(",")
                if not any(fnmatch.fnmatch(path, pattern) for pattern in excluded):
                    found.append(plugin["tag"].replace("*", path.strip("/").replace("/", ".")))
        return found

    def container_lines(self, path: str, text: str, pod_labels: Mapping[str, str]) -> list[Sent]:
        """What Loki gets of a container's log, in order."""
        records = list(_joined(text))
        return [sent for tag in self.tags(path) for record in records for sent in self.send(tag, record, pod_labels)]

    def send(self, tag: str, record: Record, pod_labels: "Mapping[str, str] | None" = None) -> Iterator[Sent]:
        """What Loki gets of one record."""
        found: Record | None = dict(record)
        for plugin in self._matching("filters", tag):
            if found is not None and (again := _new_tag(plugin, found)):
                yield from self.send(again, found, pod_labels)
                return
            if found is not None:
                found = self._filter(plugin, tag, found, pod_labels or {})
        for plugin in self._matching("outputs", tag) if found is not None else ():
            yield _sent(plugin, dict(found or {}))

    def _matching(self, kind: str, tag: str) -> list[Record]:
        return [plugin for plugin in self.plugins(kind) if fnmatch.fnmatch(tag, plugin["match"])]

    def _filter(self, plugin: Record, tag: str, record: Record, pod_labels: Mapping[str, str]) -> Record | None:
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
                assert self._parsers[plugin["parser"]]["format"] == "json"
                return _lifted(record, plugin)
            case "kubernetes":
                return record | {"kubernetes": _kubernetes(tag.removeprefix(plugin["kube_tag_prefix"]), pod_labels)}
        raise ValueError(f"What the filter {plugin['name']} does is not known here.")


def _new_tag(plugin: Record, record: Record) -> str | None:
    """The tag under which a record begins anew."""
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


def _lifted(record: Record, plugin: Record) -> Record:
    """The fields of a line of JSON in the place of the line; a line of something else as it is."""
    key = plugin["key_name"]
    try:
        fields = json.loads(record[key])
    except (KeyError, ValueError):
        return record
    if not isinstance(fields, dict):
        return record
    return (
        {name: value for name, value in record.items() if name != key} if plugin.get("reserve_data") else {}
    ) | fields


def _kubernetes(file: str, pod_labels: Mapping[str, str]) -> Record:
    found = _FILE.match(file)
    assert found, f"The kubelet names no file so: {file}"
    return found.groupdict() | {"host": "node-1", "labels": dict(pod_labels)}


def _sent(plugin: Record, record: Record) -> Sent:
    named = {kind: _pairs(plugin.get(kind, "")) for kind in ("labels", "structured_metadata")}
    values = {
        kind: {name: value for name, text in pairs.items() if (value := translated(text, record))}
        for kind, pairs in named.items()
    }
    # What has become a label or metadata is taken out of the line.
    for text in [text for pairs in named.values() for text in pairs.values()]:
        _remove(record, text)
    for key in filter(None, plugin.get("remove_keys", "").split(",")):
        record.pop(key.strip(), None)
    (only,) = record.values() if len(record) == 1 else (None,)
    raw = plugin.get("drop_single_key") == "raw" and isinstance(only, str)
    return Sent(values["labels"], values["structured_metadata"], str(only) if raw else json.dumps(record))


def _pairs(text: str) -> dict[str, str]:
    return dict(pair.strip().split("=", 1) for pair in text.split(",") if pair.strip())


def path_of(text: str) -> list[str]:
    """The keys that a record accessor goes through; none where the text is no accessor."""
    found = _ACCESSOR.fullmatch(text)
    return [found[1], *re.findall(r"\['([^']+)'\]", found[2])] if found else []


def translated(text: str, record: Record) -> str:
    """A fixed text as it is, an accessor as what it finds; empty where it finds nothing."""
    path = path_of(text)
    if not path:
        return text
    value: Any = record
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return "" if value is None else str(value)


def _remove(record: Record, text: str) -> None:
    *above, last = path_of(text) or [""]
    place: Any = record
    for key in above:
        place = place.get(key) if isinstance(place, dict) else None
    if isinstance(place, dict):
        place.pop(last, None)
