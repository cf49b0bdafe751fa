"""Values of every type of Postgres, half of them edges, and what the sink must show for each: written a second time.

Values are texts as a person may write them; what Postgres makes of one is read by `column::text`.
"""

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal, localcontext
from random import Random
from typing import Any
from uuid import UUID

Maker = Callable[[Random], str]
_LETTERS = "aAzßéK\u212aи漢🚚\u0301 \t\n\r'\"\\{},()[]%_|&;:=<>/.-0"


class RefusedError(Exception):
    """A value that SQL Server does not have."""


@dataclass(frozen=True)
class Kind:
    """A type: in the table, as the pipeline declares it, how values are made, and what the sink shows for a text."""

    source: str
    declared: str
    make: Maker
    shown: Callable[[str], Any] = str


def _half(edges: list[str], make: Maker) -> Maker:
    return lambda chance: chance.choice(edges) if chance.random() < 0.5 else make(chance)


def _integer(bits: int) -> Maker:
    edges = [str(each) for each in (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1, 0, -1, 1)]
    return _half(edges, lambda chance: str(chance.getrandbits(chance.randint(1, bits - 1)) * chance.choice([1, -1])))


def _unsigned(bits: int) -> Maker:
    edges = [str(each) for each in (0, 2 ** (bits - 1) - 1, 2 ** (bits - 1), 2**bits - 1)]
    return _half(edges, lambda chance: str(chance.getrandbits(bits)))


def _digits(chance: Random, most: int) -> str:
    return "".join(chance.choice("0123456789") for _ in range(chance.randint(0, most)))


def _number(chance: Random, most: int = 30) -> str:
    return f"{chance.choice(['', '-'])}{_digits(chance, most) or 0}.{_digits(chance, most)}"


def _text(chance: Random, most: int = 30) -> str:
    return "".join(chance.choice(_LETTERS) for _ in range(chance.randint(0, most)))


def _words(chance: Random) -> str:
    return "".join(chance.choice("abcXYZ09") for _ in range(chance.randint(1, 9)))


def _day(chance: Random) -> str:
    return f"{chance.randint(1, 9999):04}-{chance.randint(1, 12):02}-{chance.randint(1, 28):02}"


def _clock(chance: Random) -> str:
    hour, minute, second = chance.randint(0, 23), chance.randint(0, 59), chance.randint(0, 59)
    return f"{hour:02}:{minute:02}:{second:02}.{chance.randint(0, 999999):06}"


def _zone(chance: Random) -> str:
    return f"{chance.choice('+-')}{chance.randint(0, 15):02}:{chance.randint(0, 59):02}"


def _moment(zone: bool) -> Maker:
    return lambda chance: f"{_day(chance)} {_clock(chance)}{_zone(chance) if zone else ''}"


def _interval(chance: Random) -> str:
    years, months, days = (chance.randint(-9, 9) ** chance.choice([1, 5]) for _ in range(3))
    return f"{years} years {months} mons {days} days {chance.choice(['', '-'])}{_clock(chance)}"


def _float(chance: Random) -> str:
    return repr(struct.unpack("d", struct.pack("Q", chance.getrandbits(64)))[0])


def _single(chance: Random) -> str:
    return repr(struct.unpack("f", struct.pack("I", chance.getrandbits(32)))[0])


def _small(chance: Random) -> str:
    return repr(chance.choice([0.1, 1 / 3, 1e300, 5e-324, -0.0, chance.uniform(-9, 9), float(chance.randint(-9, 9))]))


def _points(least: int, form: str) -> Maker:
    def make(chance: Random) -> str:
        points = (f"({_small(chance)},{_small(chance)})" for _ in range(least + chance.randint(0, 2)))
        return form.format(",".join(points))

    return make


def _address(chance: Random) -> str:
    if chance.random() < 0.5:
        return ".".join(str(chance.choice([0, 255, chance.randint(0, 255)])) for _ in range(4))
    return ":".join(f"{chance.choice([0, 0xFFFF, chance.getrandbits(16)]):x}" for _ in range(8))


def _network(chance: Random) -> str:
    address = _address(chance)
    return f"{address}/{chance.randint(0, 128 if ':' in address else 32)}"


def _subnet(chance: Random) -> str:
    bits = chance.randint(0, 32)
    number = chance.getrandbits(32) >> (32 - bits) << (32 - bits)
    return ".".join(str(number >> shift & 255) for shift in (24, 16, 8, 0)) + f"/{bits}"


def _hardware(size: int) -> Maker:
    return lambda chance: ":".join(f"{chance.choice([0, 255, chance.getrandbits(8)]):02x}" for _ in range(size))


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _array(make: Maker) -> Maker:
    def array(chance: Random) -> str:
        def listed(count: int) -> str:
            values = ("NULL" if chance.random() < 0.2 else _quoted(make(chance)) for _ in range(count))
            return "{" + ",".join(values) + "}"

        count = chance.randint(1, 3)
        return chance.choice(
            ["{}", listed(count), f"[{-1}:{count - 2}]={listed(count)}", f"{{{listed(count)},{listed(count)}}}"]
        )

    return array


def _range(make: Maker, order: Callable[[str], Any]) -> Maker:
    def bounds(chance: Random) -> str:
        low, high = sorted((make(chance), make(chance)), key=order)
        ends = [chance.choice([f'"{each}"', f'"{each}"', ""]) for each in (low, high)]
        return f"{chance.choice('[(')}{ends[0]},{ends[1]}{chance.choice('])')}"

    return _half(["empty", "(,)"], bounds)


def _ranges(one: Maker) -> Maker:
    return lambda chance: "{" + ",".join(one(chance) for _ in range(chance.randint(0, 3))) + "}"


def _document(chance: Random, depth: int = 0) -> str:
    kind = chance.randint(0, 5 if depth < 2 else 3)
    if kind > 3:
        inner = [_document(chance, depth + 1) for _ in range(chance.randint(0, 3))]
        return f"[{', '.join(inner)}]" if kind == 4 else "{" + ",".join(f'"{_words(chance)}": {x}' for x in inner) + "}"
    return [f'"{_words(chance)}é🚚"', f"{chance.randint(-9, 9)}.{_digits(chance, 20)}0", "null", "true"][kind]


def _record(chance: Random) -> str:
    return f"({chance.choice(['t', 'f', ''])},{chance.choice(['', _quoted(_text(chance))])})"


def _bytes(chance: Random) -> str:
    return "\\x" + chance.randbytes(chance.randint(0, 20)).hex()


def _bits(length: int, fixed: bool = False) -> Maker:
    return lambda chance: "".join(chance.choice("01") for _ in range(length if fixed else chance.randint(0, length)))


def _decimal(precision: int, scale: int) -> Callable[[str], Any]:
    def shown(text: str) -> Decimal:
        value = Decimal(text)
        with localcontext(prec=200_000):
            if not value.is_finite() or abs(value) >= 10 ** (precision - scale) or value != round(value, scale):
                raise RefusedError
        return value

    return shown


def _finite(text: str) -> str:
    if text.lstrip("-").lower() in ("nan", "infinity"):
        raise RefusedError
    return repr(float(text))


def _finite_single(text: str) -> str:
    return repr(struct.unpack("f", struct.pack("f", float(_finite(text))))[0])


def _date(text: str) -> date:
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", text):
        raise RefusedError
    return date.fromisoformat(text)


def _datetime(text: str) -> datetime:
    """In UTC, without the zone."""
    if not re.fullmatch(r"\d{4}-\d\d-\d\d [\d:.]+(\+00)?", text):
        raise RefusedError
    return datetime.fromisoformat(text.removesuffix("+00"))


def _time(text: str) -> time:
    if text == "24:00:00":
        raise RefusedError
    return time.fromisoformat(text)


def _sized(length: int, padded: bool = False) -> Callable[[str], str]:
    def shown(text: str) -> str:
        units = len(text.encode("utf-16-le")) // 2
        if units > length:
            raise RefusedError
        return text + " " * (length - units if padded else 0)

    return shown


_NUMBERS = ["0", "NaN", "Infinity", "-Infinity", "9" * 36, "1e-30", "-0.00", "99999.995", "-1e38", "1.10", "1e1000"]
_DAYS = [
    "0001-01-01",
    "9999-12-31",
    "infinity",
    "-infinity",
    "10000-01-01",
    "4713-01-01 BC",
    "2024-02-29",
    "1582-10-10",
]
_TIMES = [*_DAYS, "9999-12-31 23:59:59.999999", "294276-12-31 23:59:59.999999", "1969-12-31 23:59:59.999999"]
_FLOATS = ["0", "-0", "NaN", "Infinity", "-Infinity", "5e-324", "1.7976931348623157e308", "0.1", "-1e-7", "16777217"]
_SINGLES = ["0", "-0", "NaN", "Infinity", "-Infinity", "1e-45", "3.4028235e38", "0.1", "16777216"]
_TEXTS = ["", " ", "a ", "'", "\\", "ab\u0301", "🚚" * 10, "🚚" * 11, "x" * 20, "x" * 21, "\ufeff", "\uffff", "NULL"]
_INTERVALS = ["infinity", "-infinity", "0", "178000000 years", "-2147483648 days", "2562047788 hours", "1 day", "24:00"]
_TSQUERY = ["'a' & !'b'", "'fat':*AB | ( 'rat' <-> 'c''at' )", "", "'\\\\'"]
_day_range, _time_range = _range(_day, str), _range(_moment(False), str)

KINDS = [
    Kind("smallint", "smallint", _integer(16), int),
    Kind("integer", "integer", _integer(32), int),
    Kind("bigint", "bigint", _integer(64), int),
    Kind("numeric", "numeric(12,2)", _half(_NUMBERS, lambda chance: _number(chance, 12)), _decimal(12, 2)),
    Kind("numeric", "numeric(38,10)", _half(_NUMBERS, _number), _decimal(38, 10)),
    Kind("numeric(5,-2)", "numeric(5,-2)", _half(["0", "9999900"], lambda chance: _digits(chance, 6) or "1"), Decimal),
    Kind("numeric", "text", _half(_NUMBERS, lambda chance: _number(chance, 200))),
    Kind("money", "money", _half(["-92233720368547758.08", "0.01"], lambda chance: _digits(chance, 15) + ".07"),
         lambda text: Decimal(re.sub("[$,]", "", text))),
    Kind("real", "real", _half(_SINGLES, _single), _finite_single),
    Kind("double precision", "double precision", _half(_FLOATS, _float), _finite),
    Kind("boolean", "boolean", lambda chance: chance.choice(["t", "f"]), lambda text: text == "true"),
    Kind('"char"', '"char"', lambda chance: chance.choice(["", "a", " ", "'", "\\377", "\\200"])),
    Kind("name", "name", lambda chance: _text(chance, 12)),
    Kind("text", "varchar(20)", _half(_TEXTS, _text), _sized(20)),
    Kind("text", "text", _half(_TEXTS, _text)),
    Kind("character(5)", "char(5)", _half(["", "a ", "🚚" * 2, "🚚" * 5], lambda chance: _text(chance, 5)),
         _sized(5, padded=True)),
    Kind("mood", "varchar(63)", lambda chance: chance.choice(["sad", "O'K", "x" * 63, "é {,}"])),
    Kind("word", "varchar(20)", lambda chance: _text(chance, 20).strip()[:10]),
    Kind("date", "date", _half(_DAYS, _day), _date),
    Kind("time", "time", _half(["24:00", "00:00", "23:59:59.999999"], _clock), _time),
    Kind("timetz", "timetz", _half(["24:00+15:59:59", "0:00-15:59:59"], lambda chance: _clock(chance) + _zone(chance))),
    Kind("timestamp", "timestamp", _half(_TIMES, _moment(False)), _datetime),
    Kind("timestamptz", "timestamptz", _half(_TIMES, _moment(True)), _datetime),
    Kind("interval", "interval", _half(_INTERVALS, _interval)),
    Kind("uuid", "uuid", lambda chance: str(UUID(int=chance.choice([0, 2**128 - 1, chance.getrandbits(128)]))), UUID),
    Kind("bytea", "bytea", _half(["\\x", "\\x00"], _bytes), lambda text: bytes.fromhex(text[2:])),
    Kind("bit(7)", "bit(7)", _bits(7, fixed=True)),
    Kind("varbit(7)", "varbit(7)", _bits(7)),
    Kind("json", "json", lambda chance: chance.choice(["", " "]) + _document(chance)),
    Kind("jsonb", "jsonb", _half(["1e400", "{}"], _document)),
    Kind("jsonpath", "text", lambda chance: chance.choice(["$", f'$."{_words(chance)}"[*] ? (@ > {chance.random()})'])),
    Kind("tsvector", "text", lambda chance: " ".join(f"'{_words(chance)}':{chance.randint(1, 9)}A" for _ in range(3))),
    Kind("tsquery", "text", _half(_TSQUERY, _words)),
    Kind("inet", "inet", _half(["10.0.0.1", "::1", "0.0.0.0/0", "::ffff:1.2.3.4/127"], _network),
         lambda text: re.sub(r"^([^:]+)/32$|^(.*:.*)/128$", r"\1\2", text)),
    Kind("cidr", "cidr", _half(["10.0.0.1", "::/0", "::1"], _subnet)),
    Kind("macaddr", "macaddr", _hardware(6)),
    Kind("macaddr8", "macaddr8", _hardware(8)),
    Kind("oid", "oid", _unsigned(32), int),
    Kind("xid", "xid", _unsigned(32), int),
    Kind("cid", "cid", _unsigned(32), int),
    Kind("xid8", "xid8", _unsigned(64), Decimal),
    Kind("pg_lsn", "pg_lsn", lambda chance: f"{chance.getrandbits(32):X}/{chance.getrandbits(32):X}"),
    Kind("tid", "text", lambda chance: f"({chance.getrandbits(32)},{chance.getrandbits(16)})"),
    Kind("pg_snapshot", "text", lambda chance: chance.choice(["10:20:10,14,15", "1:1:", "9:9223372036854775807:"])),
    Kind("regclass", "text", lambda chance: chance.choice(["pg_class", "t", '"T t"', "0", "4294967295"])),
    Kind("regtype", "text", lambda chance: chance.choice(["integer", "mood[]", "word", "timestamptz", "-"])),
    Kind("aclitem", "text", lambda chance: f"postgres={chance.choice(['r', 'arw*', ''])}/postgres"),
    Kind("point", "text", lambda chance: f"({_small(chance)},{_small(chance)})"),
    Kind("lseg", "text", lambda chance: f"[({_small(chance)},0),(1,{_small(chance)})]"),
    Kind("line", "text", lambda chance: f"{{{chance.randint(1, 9)},{_small(chance)},{_small(chance)}}}"),
    Kind("box", "text", lambda chance: f"({_small(chance)},{_small(chance)}),({_small(chance)},{_small(chance)})"),
    Kind("path", "text", lambda chance: _points(1, chance.choice(["[{}]", "({})"]))(chance)),
    Kind("polygon", "text", _points(1, "({})")),
    Kind("circle", "text", lambda chance: f"<({_small(chance)},{_small(chance)}),{abs(chance.gauss())}>"),
    Kind("integer[]", "text", _array(_integer(32))),
    Kind("text[]", "text", _array(_text)),
    Kind("numeric[]", "text", _array(_half(["NaN"], _number))),
    Kind("double precision[]", "text", _array(_half(_FLOATS, _float))),
    Kind("timestamptz[]", "text", _array(_half(_TIMES, _moment(True)))),
    Kind("interval[]", "text", _array(_half(_INTERVALS, _interval))),
    Kind("bytea[]", "text", _array(_bytes)),
    Kind("boolean[]", "text", _array(lambda chance: chance.choice("tf"))),
    Kind("inet[]", "text", _array(_address)),
    Kind("mood[]", "text", _array(lambda chance: chance.choice(["sad", "O'K"]))),
    Kind("pair", "text", _record),
    Kind("pair[]", "text", _array(_record)),
    Kind("int2vector", "text", lambda chance: " ".join(chance.choices(["-9", "0", "32767"], k=chance.randint(0, 4)))),
    Kind("int4range", "text", _range(_integer(16), int)),
    Kind("int8range", "text", _range(_integer(62), int)),
    Kind("numrange", "text", _range(_number, Decimal)),
    Kind("daterange", "text", _day_range),
    Kind("tsrange", "text", _time_range),
    Kind("int4multirange", "text", _ranges(_range(_integer(16), int))),
    Kind("datemultirange", "text", _ranges(_day_range)),
]  # fmt: skip
_hstore = _ranges(lambda chance: f"{_quoted(_text(chance))}=>{chance.choice(['NULL', _quoted(_text(chance))])}")
EXTENSION_KINDS = [
    Kind("xml", "xml", lambda chance: chance.choice(
        ['<?xml version="1.0"?>\n<a/>', "text &amp; more", f"<a b='{_words(chance)}'>é🚚{_words(chance)}<c/></a>"])),
    Kind("citext", "text", _half(_TEXTS, _text)),
    Kind("citext[]", "text", _array(_text)),
    Kind("hstore", "text", lambda chance: _hstore(chance)[1:-1]),
    Kind("ltree", "text", lambda chance: ".".join(_words(chance) for _ in range(chance.randint(1, 4)))),
    Kind("isbn13", "text", lambda chance: chance.choice(["978-0-393-04002-9", "9780393040029", "978-3-16-148410-0"])),
    Kind("seg", "text", lambda chance: chance.choice(["1.5 .. 2", "<0.10", f"{chance.randint(0, 99)}.50", "7 .."])),
    Kind("cube", "text", lambda chance: f"({_small(chance)},{_small(chance)}),({_small(chance)},1)"),
    Kind("lo", "oid", _unsigned(32), int),
]  # fmt: skip
"""Types of extensions, and xml, which a server may be without."""
