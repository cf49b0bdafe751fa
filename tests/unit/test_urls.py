"""A connection URL is read in one way, libpq's where it is the source's; one that can be read in two is refused."""

import re
from urllib.parse import quote

import pytest
from etl.config import urls
from etl.errors import ConfigurationError
from hypothesis import given
from hypothesis import strategies as st
from psycopg import OperationalError, ProgrammingError, pq
from psycopg.conninfo import conninfo_to_dict

_TEXT = st.text("abcXYZ019-._~!$&'()*+,;=:/?#[]@% é€\"\\", max_size=6)
_HOST = st.sampled_from(["", "h1", "db.example.com", "127.0.0.1", "[::1]", "[fe80::1%25eth0]", "%2Frun%2Fpg", "%40abs"])
_PORT = st.sampled_from(["", ":", ":5432", ":1", ":%35433"])
_OPTION = st.sampled_from(["host", "port", "user", "password", "dbname", "sslmode", "options", "service", "hostaddr"])
_VALUES = {"port": st.sampled_from(["5432", "1,2", ""])}


def _encoded(safe: str) -> st.SearchStrategy[str]:
    """A text as people encode it: all that must be, and the rest as they like."""
    return st.builds(quote, _TEXT, st.sets(st.sampled_from(safe)).map("".join))


@st.composite
def source_urls(draw: st.DrawFn) -> str:
    login = draw(
        st.just("") | _encoded("!$&'()*+,;=") | st.tuples(_encoded("!$,;="), _encoded(":!$[]=,")).map(":".join)
    )
    hosts = ",".join(host + port for host, port in draw(st.lists(st.tuples(_HOST, _PORT), min_size=1, max_size=3)))
    path = draw(st.just("") | _encoded("/:!$&,;=[]").map("/{}".format))
    values = {name: _VALUES.get(name, _encoded("/:!$,;?[]+")) for name in draw(st.lists(_OPTION, max_size=3))}
    options = [f"{name}={draw(value)}" for name, value in values.items()]
    query = f"?{'&'.join(options)}" if options else ""
    return f"{draw(st.sampled_from(['postgresql', 'postgres']))}://{login + '@' if login else ''}{hosts}{path}{query}"


def as_libpq(url: str) -> dict[str, str]:
    return {name: str(value) for name, value in conninfo_to_dict(url).items() if value}


@given(source_urls())
def test_a_source_url_is_read_as_libpq_reads_it(url: str) -> None:
    try:
        expected = as_libpq(url)
    except (OperationalError, ProgrammingError):
        return  # libpq does not read it
    assert urls.postgres("SOURCE_URL", url) == expected


def test_the_options_of_the_source_are_those_that_libpq_knows() -> None:
    assert {option.keyword.decode() for option in pq.Conninfo.get_defaults()} == urls.KEYWORDS


@pytest.mark.parametrize(
    ("url", "place", "addresses"),
    [
        ("postgresql://u:p@h/db", "h:5432/db", [("h", 5432)]),
        ("postgresql://u:p@h1:5432,h2:5433/db", "h1:5432,h2:5433/db", [("h1", 5432), ("h2", 5433)]),
        ("postgresql://u:p@h1,h2/db?port=7", "h1:7,h2:7/db", [("h1", 7), ("h2", 7)]),
        ("postgresql://u:p@[::1]:5433/db", "[::1]:5433/db", [("::1", 5433)]),
        ("postgresql://u:p@name/db?hostaddr=192.0.2.7", "name:5432/db", [("192.0.2.7", 5432)]),
        ("postgresql://u@/db?host=/var/run/postgresql", "/var/run/postgresql:5432/db", []),
        ("postgresql://u@%2Frun%2Fpg/db", "/run/pg:5432/db", []),
        ("postgresql://?service=orders", "service orders", []),
        ("postgresql:///db", "(local socket):5432/db", []),
        ("mssql://sa:p@[::1]/db", "[::1]:1433/db", None),
        ("mssql://sa:p@h:1434/?database=db", "h:1434/db", None),
    ],
)
def test_messages_say_where_it_is(url: str, place: str, addresses: list[tuple[str, int]] | None) -> None:
    assert urls.redacted_location(url) == place
    if addresses is not None:
        assert urls.addresses(urls.postgres("SOURCE_URL", url)) == addresses


_SIDES = [("SOURCE_URL", "postgresql"), ("SINK_URL", "mssql")]


def read(name: str, url: str) -> object:
    return urls.postgres(name, url) if name == "SOURCE_URL" else urls.sql_server(name, url)


@pytest.mark.parametrize(("name", "scheme"), _SIDES)
@pytest.mark.parametrize("password", ["Tr0u@3/Xy", "Tr0u/b4dor", "Tr0u?b4dor", "Tr0u#b4dor", "Tr0u/b4d@or", "%ffTr0u"])
def test_a_password_that_could_end_in_two_places_is_refused_and_no_place_is_shown(
    name: str, scheme: str, password: str
) -> None:
    url = f"{scheme}://orders:{password}@127.0.0.1:5999/orders"
    with pytest.raises(ConfigurationError, match=f"^{name} is not a URL such as {scheme}://.*%") as caught:
        read(name, url)
    assert not re.search("Tr0u|b4dor|Xy|127", str(caught.value))
    assert urls.redacted_location(url) == ""


@pytest.mark.parametrize(("name", "scheme"), _SIDES)
def test_the_last_at_before_the_host_ends_the_password(name: str, scheme: str) -> None:
    found = read(name, f"{scheme}://u:p@ss:w@db/shop")
    assert "p@ss:w" in (found["password"] if isinstance(found, dict) else getattr(found, "password", ""))
    assert urls.redacted_location(f"{scheme}://u:p@ss:w@db/shop").startswith("db:")


@pytest.mark.parametrize(
    ("name", "url", "told"),
    [
        ("SOURCE_URL", "mssql://u@h/db", "does not begin with postgresql://"),
        ("SOURCE_URL", "host=h password=Tr0u", "does not begin with postgresql://"),
        ("SOURCE_URL", "postgresql://u:Tr0u/db", "a port is not a number from 1 to 65535"),
        ("SOURCE_URL", "postgresql://u@h:0/db", "a port is not a number"),
        ("SOURCE_URL", "postgresql://u@::1/db", "an IPv6 address is written in brackets"),
        ("SOURCE_URL", "postgresql://u@[::1/db", "an IPv6 address is written as"),
        (
            "SOURCE_URL",
            "postgresql://u@h/db?target_sesion_attrs=any",
            "option after the \\? is unknown.*did you mean target_session_attrs",
        ),
        (
            "SOURCE_URL",
            "postgresql://u@h/db?password=not&Tr0u",
            r"is unknown \(in a value & is written %26\); known are application_name",
        ),
        ("SOURCE_URL", "postgresql://u@h/db?password=not&two=Tr0u", "is unknown"),
        ("SOURCE_URL", "postgresql://u:?Tr0u", "is unknown"),
        ("SINK_URL", "sqlserver://h:1433;databaseName=shop;user=sa;password=Tr0u", "SINK_URL"),
        ("SINK_URL", "mssql://sa@h,1433/shop", "a port is written after a colon"),
        ("SINK_URL", "mssql://sa@/shop", "names no host"),
        ("SINK_URL", "sa:Tr0u@db/shop", "SINK_URL is not a URL"),
        ("SINK_URL", "postgresql://sa:Tr0u@db/shop", "SINK_URL is not a URL"),
        ("SINK_URL", "mssql://sa@db/shop?pwd=x#Tr0u", "can be read in two ways"),
        ("SINK_URL", "mssql://sa@h/shop?driver=ODBC+Driver+18", "is unknown.*known are applicationintent"),
        ("SINK_URL", "mssql://sa@h/shop?applicationintent=ReadOnly", "applicationintent is none of readwrite"),
        ("SINK_URL", r"mssql://sa@host\INST/x", "names an instance.*write its port instead"),
        ("SINK_URL", r"mssql://sa@host\INST:1433/x", "names an instance.*local_tcp_port"),
        ("SINK_URL", "mssql://sa@host%5CINST/x", "names an instance"),
        ("SINK_URL", "mssql://sa@host/x?instance=INST", "names an instance"),
    ],
)
def test_what_cannot_be_read_is_refused_in_a_sentence(name: str, url: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told) as caught:
        read(name, url)
    assert "Tr0u" not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        "encrypt=strict&hostnameincertificate=sql.example.com&MultiSubnetFailover=yes&ApplicationIntent=ReadWrite",
        "Encrypt=Strict&hostNameInCertificate=sql.example.com&multiSubnetFailover=true&applicationIntent=ReadWrite",
        "Encrypt=strict&Host%20Name%20In%20Certificate=sql.example.com&Multi_Subnet_Failover=1&application-intent=readwrite",
    ],
)
def test_options_of_the_sink_are_known_by_the_names_of_every_driver(options: str) -> None:
    found = urls.sql_server("SINK_URL", f"mssql://etl@listener/shop?{options}")
    assert found.options == {"MultiSubnetFailover": "Yes", "ApplicationIntent": "ReadWrite"}
    assert (found.tls.encrypt, found.tls.name) == ("strict", "sql.example.com")


@pytest.mark.parametrize(
    "url", ["s3://AKIA7:Tr0u@bucket/etl", "s3://AKIA7:Tr0u/b4dor@bucket", "x::s3://Tr0u@bucket/a", "s3://Tr0u?@b"]
)
def test_keys_in_the_url_of_a_bucket_are_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"STAGING_URL.*AWS_SECRET_ACCESS_KEY") as caught:
        urls.check_storage("STAGING_URL", url)
    assert not re.search("AKIA7|Tr0u|b4dor", str(caught.value))


@pytest.mark.parametrize(
    "url", ["file:///a/b@c", "s3://bucket/a:b", "s3://arn:aws:s3:eu-west-1:123456789012:accesspoint/name/x"]
)
def test_other_folders_are_let_through(url: str) -> None:
    urls.check_storage("STAGING_URL", url)
