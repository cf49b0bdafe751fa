"""The limits that the double enforces, from a configuration file of Loki; other settings are ignored."""

import os
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

SECOND = 10**9
HOUR = 3600 * SECOND
KB, MB = 2**10, 2**20
_PARTS = ("server", "ingester", "limits_config")
_UNITS = {"ms": SECOND // 1000, "s": SECOND, "m": 60 * SECOND, "h": HOUR, "d": 24 * HOUR}
_SIZES = {"B": 1, "KB": KB, "MB": MB, "GB": 2**30}


@dataclass(frozen=True)
class Limits:
    """Names and defaults are those of Loki's limits_config; times in nanoseconds, sizes in bytes."""

    ingestion_rate_mb: int = 4
    ingestion_burst_size_mb: int = 6
    per_stream_rate_limit: int = 3 * MB
    per_stream_rate_limit_burst: int = 15 * MB
    max_global_streams_per_user: int = 5000
    max_line_size: int = 256 * KB
    max_line_size_truncate: bool = False
    max_label_names_per_series: int = 15
    max_label_name_length: int = 1024
    max_label_value_length: int = 2048
    max_structured_metadata_size: int = 64 * KB
    max_structured_metadata_entries_count: int = 128
    reject_old_samples: bool = True
    reject_old_samples_max_age: int = 7 * 24 * HOUR
    creation_grace_period: int = HOUR // 6
    max_query_length: int = 721 * HOUR
    max_query_lookback: int = 0
    max_entries_limit_per_query: int = 5000
    max_chunk_age: int = 2 * HOUR
    """Of the ingester: a line may be behind the newest of its stream by half of it."""
    grpc_server_max_send_msg_size: int = 4 * MB
    """Of the server: so large is an answer at most."""


def read(file: Path, *, expand: bool) -> tuple[Limits, dict[str, Any]]:
    """The limits in a file, and all of the file."""
    text = file.read_text()
    if expand:
        text = re.sub(r"\$\{(\w+)(?::-([^}]*))?\}", lambda found: os.environ.get(found[1]) or found[2] or "", text)
    configuration: dict[str, Any] = yaml.safe_load(text)
    said = {name: value for part in _PARTS for name, value in configuration.get(part, {}).items()}
    known = {field.name for field in fields(Limits)}
    values: dict[str, Any] = {name: amount(value) for name, value in said.items() if name in known}
    return Limits(**values), configuration


def amount(value: object) -> int:
    """A number, 256KB in bytes, or 1h30m in nanoseconds."""
    if isinstance(value, int):
        return value
    if found := re.fullmatch(r"(\d+)([KMG]?B)", str(value)):
        return int(found[1]) * _SIZES[found[2]]
    parts = re.findall(r"(\d+)(ms|[smhd])", str(value))
    if not parts or "".join(map("".join, parts)) != value:
        raise ValueError(f"the double of Loki's API reads no size and no duration in {value!r}")
    return sum(int(number) * _UNITS[unit] for number, unit in parts)


def duration_text(nanoseconds: int) -> str:
    """A duration as Go writes it: 744h0m1.5s."""
    minutes, rest = divmod(nanoseconds, 60 * SECOND)
    return f"{minutes // 60}h{minutes % 60}m{rest / SECOND:g}s"


def size_text(size: int) -> str:
    """A size as Loki writes it: in the largest unit that has no fraction."""
    unit, by = next((unit, by) for unit, by in reversed(_SIZES.items()) if size % by == 0)
    return f"{size // by}{unit}"
