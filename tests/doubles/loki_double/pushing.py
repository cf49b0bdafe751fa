"""Lines come in: which are taken, and with which words Loki refuses the others."""

import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime

from . import RefusedError, not_implemented
from .limits import MB, SECOND, Limits, size_text
from .logql import Labels
from .store import Entry, Store, Stream

_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_ASK = "contact your Loki administrator to see if the limit can be increased"
_SHOWN = 10
"""Loki names so many lines of a stream at most."""
Problem = tuple[str, str]
"""The reason for the metric, and the message."""


class Bucket:
    """So many bytes a second, and so many at once."""

    def __init__(self, rate: int, burst: int) -> None:
        self._rate, self._burst = rate, burst
        self._left, self._since = float(burst), time.monotonic()

    def take(self, count: int) -> bool:
        """Whether there are so many now; they are gone then."""
        now = time.monotonic()
        self._left = min(self._burst, self._left + (now - self._since) * self._rate)
        self._since = now
        if count > self._left:
            return False
        self._left -= count
        return True


class Intake:
    """Accepts pushed lines. Counts the received ones and, by reason, the rejected ones."""

    def __init__(self, limits: Limits, store: Store) -> None:
        self.limits, self.store = limits, store
        self.received, self.discarded = 0, Counter[str]()
        self._all = Bucket(limits.ingestion_rate_mb * MB, limits.ingestion_burst_size_mb * MB)
        self._each: dict[int, Bucket] = {}

    def push(self, body: bytes, tenant: str) -> None:
        """Store the valid lines of a push. Raises RefusedError if there were others."""
        streams = _read(body)
        if not streams:
            raise RefusedError("error at least one valid stream is required for ingestion", 422)
        with self.store.lock:
            self.received += sum(len(entries) for _, entries in streams)
            problems: list[Problem] = []
            valid = [(labels, list(self._valid(labels, entries, problems))) for labels, entries in streams]
            self.discarded.update(reason for reason, _ in problems)
            self._allow([entry for _, entries in valid for entry in entries])
            # Loki reports the error of the last stream only.
            refusals = [self._keep(tenant, labels, entries) for labels, entries in valid if entries]
        if refusals and refusals[-1]:
            raise refusals[-1]
        if problems:
            counts = Counter(note for _, note in problems)
            note = "; ".join(f"{count} errors like: {note}" for note, count in counts.items())
            raise RefusedError(note if len(problems) > 1 else problems[0][1])

    def _valid(self, labels: Labels, entries: list[Entry], problems: list[Problem]) -> Iterator[Entry]:
        """The lines within the limits; errors of the others are added to `problems`."""
        if entries and (problem := self._of_labels(labels)):
            problems.append(problem)
            self.discarded[problem[0]] += len(entries) - 1  # the one is counted with the problems
            return
        now = time.time_ns()
        for entry in map(self._cut, entries):
            if problem := self._of_entry(labels, entry, now):
                problems.append(problem)
            else:
                yield entry

    def _of_labels(self, labels: Labels) -> Problem | None:
        limits, stream = self.limits, labels_text(labels)
        if not labels:
            return "missing_labels", "error at least one label pair is required per stream"
        if len(labels) > limits.max_label_names_per_series:
            note = f"has {len(labels)} label names; limit {limits.max_label_names_per_series}"
            return "max_label_names_per_series", f"entry for stream '{stream}' {note}"
        for name, value in sorted(labels.items()):
            if len(name.encode()) > limits.max_label_name_length:
                return "label_name_too_long", f"stream '{stream}' has label name too long: '{name}'"
            if len(value.encode()) > limits.max_label_value_length:
                return "label_value_too_long", f"stream '{stream}' has label value too long: '{value}'"
        return None

    def _of_entry(self, labels: Labels, entry: Entry, now: int) -> Problem | None:
        limits, oldest = self.limits, now - self.limits.reject_old_samples_max_age
        stream, length = labels_text(labels), len(entry.line.encode())
        metadata, most = entry.bytes - length, limits.max_structured_metadata_size
        if limits.reject_old_samples and entry.at < oldest:
            note = f"too old: {_time(entry.at)}, oldest acceptable timestamp is: {_time(oldest)}"
            return "greater_than_max_sample_age", f"entry for stream '{stream}' has timestamp {note}"
        if entry.at > now + limits.creation_grace_period:
            return "too_far_in_future", f"entry for stream '{stream}' has timestamp too new: {_time(entry.at)}"
        if length > limits.max_line_size:
            note = f"for stream '{stream}' while adding an entry with length '{length}' bytes"
            return "line_too_long", f"max entry size '{limits.max_line_size}' bytes exceeded {note}"
        if metadata > most:
            note = f"has structured metadata too large: '{metadata}' bytes, limit: '{most}' bytes. {_see('size')}"
            return "structured_metadata_too_large", f"stream '{stream}' {note}"
        if (count := len(entry.metadata)) > (most := limits.max_structured_metadata_entries_count):
            note = f"has too many structured metadata labels: '{count}', limit: '{most}'. {_see('entries_count')}"
            return "structured_metadata_too_many", f"stream '{stream}' {note}"
        return None

    def _allow(self, entries: list[Entry]) -> None:
        size = sum(entry.bytes for entry in entries)
        if not self._all.take(size):
            self.discarded["rate_limited"] += len(entries)
            limit = f"limit: {self.limits.ingestion_rate_mb * MB} bytes/sec"
            note = f"({limit}) while attempting to ingest '{len(entries)}' lines totaling '{size}' bytes"
            raise RefusedError(f"ingestion rate limit exceeded for user fake {note}, reduce log volume or {_ASK}", 429)

    def _keep(self, tenant: str, labels: Labels, entries: list[Entry]) -> RefusedError | None:
        limits, stream = self.limits, self.store.stream(labels, tenant)
        if stream is None and len(self.store.streams) >= limits.max_global_streams_per_user:
            self.discarded["stream_limit"] += len(entries)
            note = f"{labels_text(labels)}, reduce the number of active streams (reduce labels or reduce label values)"
            note = f"when trying to create stream {note}, or {_ASK}, user: 'fake'"
            return RefusedError(f"maximum active stream limit exceeded {note}", 429)
        stream = stream or self.store.make_stream(labels, tenant)
        rate = limits.per_stream_rate_limit
        bucket = self._each.setdefault(stream.number, Bucket(rate, limits.per_stream_rate_limit_burst))
        near, far = self._by_distance(stream, entries)
        if bucket.take(sum(entry.bytes for entry in near)):
            self.store.add(stream, near)
            return self._refusal("too_far_behind", stream, far, len(entries), 400)
        each = f"Per stream rate limit exceeded (limit: {size_text(rate)}/sec) while attempting to ingest for stream"
        each += f" '{labels_text(labels)}' totaling %s, consider splitting a stream via additional labels or {_ASK}"
        all_of_it = [(entry, each % size_text(entry.bytes)) for entry in near]
        return self._refusal("per_stream_rate_limit", stream, all_of_it, len(entries), 429)

    def _by_distance(self, stream: Stream, entries: list[Entry]) -> tuple[list[Entry], list[tuple[Entry, str]]]:
        newest, near, far = stream.newest, [], []
        for entry in entries:
            cutoff = newest - self.limits.max_chunk_age // 2
            if entry.at < cutoff:
                times = f"entry timestamp is: {_time(entry.at)}, oldest acceptable timestamp is: {_time(cutoff)}"
                far.append((entry, f"entry too far behind, {times}"))
            else:
                near.append(entry)
                newest = max(newest, entry.at)
        return near, far

    def _cut(self, entry: Entry) -> Entry:
        line, most = entry.line.encode(), self.limits.max_line_size
        if not self.limits.max_line_size_truncate or len(line) <= most:
            return entry
        return Entry(entry.at, line[:most].decode(errors="replace"), entry.metadata)

    def _refusal(
        self, reason: str, stream: Stream, refused: list[tuple[Entry, str]], of: int, status: int
    ) -> RefusedError | None:
        if not refused:
            return None
        self.discarded[reason] += len(refused)
        note = [f"entry with timestamp {_exact(entry.at)} ignored, reason: '{why}',\n" for entry, why in refused]
        total = f"user 'fake', total ignored: {len(refused)} out of {of} for stream: {labels_text(stream.labels)}"
        return RefusedError("".join(note[:_SHOWN]) + total, status)


def _read(body: bytes) -> list[tuple[Labels, list[Entry]]]:
    """The streams of a push, as JSON has them."""
    try:
        sent = json.loads(body.decode(errors="replace")).get("streams") or []
        return [(_labels(one["stream"]), [_entry(*value) for value in one["values"]]) for one in sent]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise RefusedError(f"the push is none as Loki's API has it: {error!r}") from None


def _labels(sent: dict[str, str]) -> Labels:
    for name in sent:
        if not _NAME.fullmatch(name):
            raise RefusedError(f"couldn't parse labels: {name!r} is no name of a label")
    return {name: _clean(value) for name, value in sent.items() if value}


def _entry(at: str, line: str, metadata: dict[str, str] | None = None) -> Entry:
    for name in metadata or {}:
        if not _NAME.fullmatch(name):
            raise not_implemented(f"the name {name!r} of structured metadata, which Loki would change")
    if not isinstance(at, str):
        raise TypeError(at)
    return Entry(int(at), _clean(line), {name: _clean(value) for name, value in (metadata or {}).items() if value})


def _clean(text: str) -> str:
    """Without halves of surrogate pairs, which JSON can have and UTF-8 cannot."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def labels_text(labels: Labels) -> str:
    """Labels as Loki writes them."""
    return "{" + ", ".join(f"{name}={json.dumps(labels[name], ensure_ascii=False)}" for name in sorted(labels)) + "}"


def _see(limit: str) -> str:
    limit = f"`limits_config.max_structured_metadata_{limit}`"
    return f"Please see {limit} or contact your Loki administrator to increase it"


def _time(at: int) -> str:
    return datetime.fromtimestamp(at // SECOND, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _exact(at: int) -> str:
    fraction = f".{at % SECOND:09d}".rstrip("0").rstrip(".")
    return datetime.fromtimestamp(at // SECOND, UTC).strftime(f"%Y-%m-%d %H:%M:%S{fraction} +0000 UTC")
