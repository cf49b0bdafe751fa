"""The decoder: from batches of messages of pgoutput (protocol 1) to images, the new rows of inserts and updates.

A message begins with its letter: B and C are begin and commit of a transaction, R announces the columns of a table, I,
U, D and T change it; O and Y say where a transaction comes from and what a type is called, and change nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from etl.capture.tuples import TEXT, UNCHANGED, Bytes, LogError, Places, Values, big_endian, split_rows, texts
from etl.errors import printable

_LENGTHS = {"B": 21, "C": 26}
_LEAST = {"R": 12, "I": 8, "U": 8, "D": 8, "T": 10, "O": 10, "Y": 7}
_ROW_AT = 6
"""Where the row of I, D, and of U without an old row begins: after letter, table and the letter of the row."""


class Images(NamedTuple):
    """New rows in the order of commits: the texts of the wanted columns, and the first row of each value not sent."""

    texts: list[pa.Array]
    unsent: dict[str, int]


@dataclass
class Changes:
    """The changes of the wanted table in the window, counted as their messages come."""

    inserts: int = 0
    updates: int = 0
    deletes: int = 0
    truncates: int = 0


@dataclass
class Decoder:
    """Decodes the messages of one slot, batch after batch, for one table and the transactions of a window.

    `table`: its oid. `types`: the oid of the type of each column at the source. `wanted`: the columns to return.
    """

    table: int
    types: Mapping[str, int]
    wanted: Sequence[str]
    low: int
    high: int
    changes: Changes = field(default_factory=Changes)
    _is_open: bool = False
    _commit: int = -1
    """Where the commit of the open transaction is in the log."""
    _columns: list[tuple[str, int]] | None = None
    """The columns of the table as announced last, with the oids of their types."""

    def images(self, messages: pa.Array) -> Images:
        """The images of a batch. Raises LogError for what is not as documented, or a table that has changed."""
        buffer, begins, ends = _buffers(messages)
        if not len(begins):
            return Images([pa.array([], pa.string()) for _ in self.wanted], {})
        if not (ends > begins).all():
            raise LogError("a message is empty")
        letters = buffer[begins]
        self._check_lengths(letters, ends - begins)
        is_inside = self._inside(buffer, letters, begins)
        changing = np.isin(letters, np.frombuffer(b"IUD", np.uint8))
        of_table = changing.copy()
        of_table[changing] = big_endian(buffer, begins[changing] + 1, 4) == self.table
        self._count(buffer, letters, begins, ends, is_inside, is_inside & of_table)
        rows = np.flatnonzero(is_inside & of_table)
        parts = []
        # Each announcement of the table starts a part, in which its columns are the announced ones.
        announced = [
            place
            for place in np.flatnonzero(letters == ord("R")).tolist()
            if int(big_endian(buffer, begins[place : place + 1] + 1, 4)[0]) == self.table
        ]
        for first, last in zip([0, *announced], [*announced, len(letters)], strict=True):
            if first in announced:
                self._columns = _announced(bytes(buffer[begins[first] : ends[first]]))
            some = rows[(rows >= first) & (rows < last)]
            if len(some):
                parts.append(self._part(buffer, letters[some], begins[some], ends[some]))
        return _joined(parts, len(self.wanted))

    def finish(self) -> None:
        """Raise LogError if the messages end within a transaction."""
        if self._is_open:
            raise LogError("the messages end within a transaction")

    def _check_lengths(self, letters: Bytes, lengths: Places) -> None:
        known = np.zeros(len(letters), dtype=bool)
        for letter, exact in _LENGTHS.items():
            these = letters == ord(letter)
            known |= these
            if not (lengths[these] == exact).all():
                raise LogError(f"a message {letter} does not have the length of its protocol")
        for letter, least in _LEAST.items():
            these = letters == ord(letter)
            known |= these
            if not (lengths[these] >= least).all():
                raise LogError(f"a message {letter} is cut off")
        if not known.all():
            letter = printable(chr(int(letters[~known][0])))
            raise LogError(f"a message {letter} is not of protocol 1 of pgoutput")

    def _inside(self, buffer: Bytes, letters: Bytes, begins: Places) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
        """Whether each message is of a transaction of the window. Raises LogError for one outside of any."""
        is_begin, is_commit = letters == ord("B"), letters == ord("C")
        depth = int(self._is_open) + np.cumsum(is_begin) - np.cumsum(is_commit)
        if not (depth == np.where(is_commit, 0, 1)).all():
            raise LogError("messages are not within transactions")
        of = np.maximum.accumulate(np.where(is_begin, np.arange(len(letters)), -1))
        commits = np.full(len(letters), self._commit, dtype=np.int64)
        known = of >= 0
        commits[known] = big_endian(buffer, begins[of[known]] + 1, 8)
        if not (big_endian(buffer, begins[is_commit] + 2, 8) == commits[is_commit]).all():
            raise LogError("a commit is not that of its transaction")
        self._is_open, self._commit = bool(depth[-1]), int(commits[-1])
        inside: np.ndarray[tuple[int], np.dtype[np.bool_]] = (commits >= self.low) & (commits < self.high)
        return inside

    def _count(
        self, buffer: Bytes, letters: Bytes, begins: Places, ends: Places, is_inside: np.ndarray, counted: np.ndarray
    ) -> None:
        self.changes.inserts += int((letters[counted] == ord("I")).sum())
        self.changes.updates += int((letters[counted] == ord("U")).sum())
        self.changes.deletes += int((letters[counted] == ord("D")).sum())
        for place in np.flatnonzero(is_inside & (letters == ord("T"))).tolist():
            message = bytes(buffer[begins[place] : ends[place]])
            number = int.from_bytes(message[1:5], "big")
            if len(message) != 6 + 4 * number:
                raise LogError("a message T does not have the length of its protocol")
            tables = [int.from_bytes(message[6 + 4 * each : 10 + 4 * each], "big") for each in range(number)]
            self.changes.truncates += self.table in tables

    def _part(self, buffer: Bytes, letters: Bytes, begins: Places, ends: Places) -> Images:
        """The images of changes with the same columns."""
        columns = self._checked_columns()
        markers, places = buffer[begins + 5], begins + _ROW_AT
        is_delete = letters == ord("D")
        is_old = np.isin(markers, np.frombuffer(b"KO", np.uint8))
        if not (is_old | ((markers == ord("N")) & ~is_delete)).all() or (is_old & (letters == ord("I"))).any():
            raise LogError("a change has a row of an unknown kind")
        old, old_ends = split_rows(buffer, places[is_old], ends[is_old], len(columns))
        places[is_old] = old_ends
        if not (places[is_delete] == ends[is_delete]).all():
            raise LogError("a message D has more than a row")
        updated = np.flatnonzero(is_old & ~is_delete)
        if not (
            (places[updated] < ends[updated]) & (buffer[np.minimum(places[updated], len(buffer) - 1)] == ord("N"))
        ).all():
            raise LogError("a message U has no new row")
        places[updated] += 1
        images = np.flatnonzero(~is_delete)
        new, new_ends = split_rows(buffer, places[images], ends[images], len(columns))
        if not (new_ends == ends[images]).all():
            raise LogError("a message has more than its rows")
        # For each image its old row, as a number of `old`; -1 where there is none.
        of_old = np.where(is_old, np.cumsum(is_old) - 1, -1)[images]
        return self._wanted(buffer, columns, new, old, of_old)

    def _wanted(
        self, buffer: Bytes, columns: Sequence[str], new: list[Values], old: list[Values], of_old: Places
    ) -> Images:
        found, unsent = [], {}
        for name in self.wanted:
            place = columns.index(name)
            values = new[place]
            missing = np.flatnonzero(values.kinds == UNCHANGED)
            if len(missing):
                # Such a value is not null, so the old row has it as a text or does not have it: whether it is whole
                # (O) or only the identity (K) is not asked, since of a partition the log says what its table has.
                there = missing[of_old[missing] >= 0]
                there = there[old[place].kinds[of_old[there]] == TEXT]
                values = values.filled_from(old[place].taken(of_old[there]), there)
                lacking = np.flatnonzero(values.kinds == UNCHANGED)
                if len(lacking):
                    unsent[name] = int(lacking[0])
            found.append(texts(buffer, values))
        return Images(found, unsent)

    def _checked_columns(self) -> list[str]:
        """The names of the table's columns. Raises LogError if it does not have those that are wanted."""
        if self._columns is None:
            raise LogError("a table changes before its columns were announced")
        types = dict(self._columns)
        for name in self.wanted:
            if name not in types:
                raise LogError(
                    f"the column {printable(name)} is not in the log: it was added later, or is not published"
                )
            if types[name] != self.types.get(name):
                raise LogError(f"the column {printable(name)} had another type when the log was written")
        return [name for name, _ in self._columns]


def _buffers(messages: pa.Array) -> tuple[Bytes, Places, Places]:
    """The bytes of messages, and where each begins and ends."""
    if messages.null_count:
        raise LogError("a message is null")
    is_large = pa.types.is_large_binary(messages.type)
    _, offsets, data = messages.buffers()
    size = len(messages)
    width = np.int64 if is_large else np.int32
    bounds = np.frombuffer(offsets, width)[messages.offset : messages.offset + size + 1].astype(np.int64)
    buffer = np.frombuffer(data, np.uint8) if data is not None and data.size else np.zeros(0, np.uint8)
    return buffer, bounds[:-1], bounds[1:]


def _announced(message: bytes) -> list[tuple[str, int]]:
    """The columns of a message R, with the oids of their types."""
    try:
        _, at = _text(message, 5)
        _, at = _text(message, at)
        number, at = int.from_bytes(message[at + 1 : at + 3], "big"), at + 3
        found = []
        for _ in range(number):
            name, at = _text(message, at + 1)
            found.append((name, int.from_bytes(message[at : at + 4], "big")))
            at += 8
    except ValueError:
        raise LogError("a message R is cut off, or has a name that is not UTF-8") from None
    if at != len(message):
        raise LogError("a message R does not have the length of its protocol")
    return found


def _text(message: bytes, at: int) -> tuple[str, int]:
    end = message.index(b"\0", at)
    return message[at:end].decode(), end + 1


def _joined(parts: list[Images], columns: int) -> Images:
    if not parts:
        return Images([pa.array([], pa.string()) for _ in range(columns)], {})
    unsent: dict[str, int] = {}
    before = 0
    for part in parts:
        for name, row in part.unsent.items():
            unsent.setdefault(name, before + row)
        before += len(part.texts[0])
    return Images([pa.concat_arrays([part.texts[place] for part in parts]) for place in range(columns)], unsent)
