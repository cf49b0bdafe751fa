"""Messages of pgoutput: what is decoded, and what is refused because it is not as the protocol says."""

import struct
from contextlib import suppress

import pyarrow as pa
import pytest
from etl.capture.decode import Decoder
from etl.capture.tuples import LogError
from etl.capture.values import read_values
from hypothesis import given
from hypothesis import strategies as st

TABLE, INT4, TEXT = 16384, 23, 25


def begin(at: int) -> bytes:
    return b"B" + struct.pack(">qqi", at, 0, 7)


def commit(at: int) -> bytes:
    return b"C" + struct.pack(">bqqq", 0, at, at + 48, 0)


def relation(*columns: tuple[str, int], table: int = TABLE) -> bytes:
    described = b"".join(b"\0" + name.encode() + b"\0" + struct.pack(">Ii", oid, -1) for name, oid in columns)
    return b"R" + struct.pack(">I", table) + b"public\0t\0f" + struct.pack(">h", len(columns)) + described


def row(*values: object) -> bytes:
    parts = [struct.pack(">h", len(values))]
    for value in values:
        if value is None or value is ...:
            parts.append(b"n" if value is None else b"u")
        else:
            text = str(value).encode()
            parts.append(b"t" + struct.pack(">i", len(text)) + text)
    return b"".join(parts)


def insert(*values: object, table: int = TABLE) -> bytes:
    return b"I" + struct.pack(">I", table) + b"N" + row(*values)


def update(old: bytes, *values: object) -> bytes:
    return b"U" + struct.pack(">I", TABLE) + old + b"N" + row(*values)


COLUMNS = relation(("k", INT4), ("v", TEXT))


def decoder(low: int = 0, high: int = 1000) -> Decoder:
    return Decoder(TABLE, {"k": INT4, "v": TEXT}, ["v", "k"], low, high)


def decoded(messages: list[bytes], made: Decoder | None = None, size: int = 1000) -> list[tuple[str | None, ...]]:
    """The images of messages that come in batches of a size."""
    made, found = made or decoder(), []
    for first in range(0, len(messages), size):
        images = made.images(pa.array(messages[first : first + size], pa.binary()))
        assert not images.unsent
        found += list(zip(*(each.to_pylist() for each in images.texts), strict=True))
    made.finish()
    return found


@given(
    st.lists(
        st.lists(
            st.tuples(st.sampled_from("IUOD"), st.one_of(st.none(), st.text(max_size=20)), st.integers(0, 9)),
            max_size=6,
        ),
        max_size=6,
    ),
    st.integers(1, 30),
    st.integers(0, 6),
)
def test_images_come_in_order_whatever_the_batches_and_only_those_of_the_window(
    transactions: list[list[tuple[str, str | None, int]]], size: int, low: int
) -> None:
    messages, expected, counts = [], [], dict.fromkeys("IUD", 0)
    for at, changes in enumerate(transactions):
        messages.append(begin(at))
        if at == 0:
            messages += [COLUMNS, relation(("other", INT4), table=5)]
        for kind, text, key in changes:
            match kind:
                case "I":
                    messages += [insert(key, text), insert(key, table=5)]
                case "U":
                    messages.append(update(b"", key, text))
                case "O":  # with its old row, from which a value that was not sent is taken
                    messages.append(update(b"O" + row(key, text), key, text if text is None else ...))
                case "D":
                    messages.append(b"D" + struct.pack(">I", TABLE) + b"K" + row(key, None))
            if at >= low:
                counts["U" if kind == "O" else kind] += 1
                expected += [] if kind == "D" else [(text, str(key))]
        messages.append(commit(at))
    made = decoder(low=low)
    assert decoded(messages, made, size) == expected
    assert (made.changes.inserts, made.changes.updates, made.changes.deletes) == tuple(counts.values())


def test_columns_that_change_their_place_in_the_middle_are_followed() -> None:
    moved = relation(("new", INT4), ("v", TEXT), ("k", INT4))
    messages = [begin(1), COLUMNS, insert(1, "a"), moved, insert(None, "b", 2), commit(1)]
    assert decoded(messages) == [("a", "1"), ("b", "2")]


def test_a_value_that_was_not_sent_and_is_in_no_old_row_is_named() -> None:
    batch = [begin(1), COLUMNS, insert(1, "a"), update(b"K" + row(1, None), 1, ...), commit(1)]
    assert decoder().images(pa.array(batch, pa.binary())).unsent == {"v": 1}


def test_truncates_of_the_table_are_counted() -> None:
    made = decoder()
    truncates = [b"T" + struct.pack(">ib", len(tables), 0) + struct.pack(f">{len(tables)}I", *tables)
                 for tables in ([TABLE, 5], [5])]  # fmt: skip
    assert decoded([begin(1), *truncates, commit(1)], made) == []
    assert made.changes.truncates == 1


WHOLE = [begin(1), COLUMNS, insert(1, "a"), update(b"O" + row(1, "a"), 1, "b"), commit(1)]


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ([begin(1), b"M" + b"\0" * 20, commit(1)], "M is not of protocol 1"),
        ([begin(1), b"S" + b"\0" * 20, commit(1)], "S is not of protocol 1"),
        ([begin(1), b"", commit(1)], "is empty"),
        ([insert(1, "a")], "not within transactions"),
        ([begin(1), begin(2), commit(2)], "not within transactions"),
        ([begin(1), commit(2)], "not that of its transaction"),
        ([begin(1), COLUMNS, insert(1, "a")], "end within a transaction"),
        ([begin(1), insert(1, "a"), commit(1)], "before its columns were announced"),
        ([begin(1), relation(("k", INT4)), insert(1), commit(1)], "the column v is not in the log"),
        ([begin(1), relation(("k", TEXT), ("v", TEXT)), insert(1, "a"), commit(1)], "column k had another type"),
        ([begin(1), COLUMNS, insert(1), commit(1)], "does not have the 2 columns"),
        ([begin(1), COLUMNS, insert(1, "a") + b"x", commit(1)], "more than its rows"),
        ([begin(1), COLUMNS, insert(1, "a").replace(b"t", b"b"), commit(1)], "unknown kind"),
        ([begin(1)[:-1], commit(1)], "length of its protocol"),
        ([begin(1), COLUMNS + b"x", commit(1)], "R does not have the length"),
        ([begin(1), COLUMNS, update(b"O" + row(1, "a"), 1, "b").replace(b"N", b"X"), commit(1)], "no new row"),
    ],
)
def test_what_is_not_as_the_protocol_says_is_refused(broken: list[bytes], words: str) -> None:
    with pytest.raises(LogError, match=words):
        decoded(broken)


@pytest.mark.parametrize("place", range(len(WHOLE)))
def test_a_message_that_is_cut_off_anywhere_is_refused(place: int) -> None:
    assert decoded(WHOLE) == [("a", "1"), ("b", "1")]
    for length in range(len(WHOLE[place])):
        messages = [*WHOLE[:place], WHOLE[place][:length], *WHOLE[place + 1 :]]
        with pytest.raises(LogError):
            decoded(messages)


def test_bytes_of_a_message_that_are_changed_raise_nothing_else() -> None:
    for place, message in enumerate(WHOLE):
        for at in range(len(message)):
            for byte in (0, 255, ord("K"), ord("u")):
                changed = message[:at] + bytes([byte]) + message[at + 1 :]
                with suppress(LogError):
                    decoder().images(pa.array([*WHOLE[:place], changed, *WHOLE[place + 1 :]], pa.binary()))


@pytest.mark.parametrize(
    ("wanted", "text", "value"),
    [
        (pa.bool_(), "t", True),
        (pa.int64(), "-9223372036854775808", -(2**63)),
        (pa.float64(), "5e-324", 5e-324),
        (pa.float32(), "Infinity", float("inf")),
        (pa.string(), " a\tb ", " a\tb "),
        (pa.binary(), r"\x00ff", b"\x00\xff"),
        (pa.binary(), r"\x", b""),
    ],
)
def test_texts_become_the_values_that_they_stand_for(wanted: pa.DataType, text: str, value: object) -> None:
    found = read_values(pa.array([text, None], pa.string()), wanted)
    assert found.type == wanted
    assert found.to_pylist() == [value, None]
