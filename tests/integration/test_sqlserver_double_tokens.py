"""The double takes tokens as SQL Server is documented to: of whom, for what, and until when."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from types import SimpleNamespace
from typing import Any

import mssql_python
import pytest

from dev.sandbox.sqlserver import SqlServerDouble
from dev.sandbox.sqlserver.engine.directory import AUDIENCE, Directory, sign
from tests.cluster.certificates import Authority

APPLICATION, ADMINISTRATOR, STRANGER = (f"0a1b2c3d-0000-4000-8000-00000000000{n}" for n in (1, 2, 3))
DIRECTORY = Directory("key-of-tests", "dba", {"etl app": APPLICATION, "dba": ADMINISTRATOR})
VALID = 1 << 40


@dataclass(frozen=True)
class Provider:
    """Gives a token of these claims to the driver."""

    claims: dict[str, Any]
    key: str = DIRECTORY.key

    def get_token(self, *_scopes: str, **_options: Any) -> Any:
        """The token."""
        return SimpleNamespace(token=sign(self.claims, self.key), expires_on=VALID)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqlServerDouble]:
    authority = Authority.of_server(tmp_path_factory.mktemp("authority"), "sink", "localhost")
    certificate = authority.certificate_of("sink"), authority.key_of("sink")
    with SqlServerDouble(directory=asdict(DIRECTORY), certificate=certificate) as made:
        yield made


def log_in(server: SqlServerDouble, provider: Provider | None, database: str = "sink") -> mssql_python.Connection:
    text = f"Server=localhost,{server.port};Database={database};TrustServerCertificate=yes"
    who = "" if provider else f";UID={server.login};PWD={server.password}"
    return mssql_python.connect(text + who, autocommit=True, token_provider=provider)


def token_of(client: str) -> Provider:
    return Provider({"aud": AUDIENCE, "appid": client, "exp": VALID})


def create_user(server: SqlServerDouble, provider: Provider | None, name: str) -> None:
    with closing(log_in(server, provider)) as connection, closing(connection.cursor()) as cursor:
        cursor.execute(f"CREATE USER [{name}] FROM EXTERNAL PROVIDER")


@pytest.mark.parametrize(
    ("claims", "key", "told"),
    [
        ({"aud": AUDIENCE, "appid": ADMINISTRATOR, "exp": 1}, DIRECTORY.key, "Token is expired"),
        ({"aud": AUDIENCE, "appid": ADMINISTRATOR, "exp": VALID}, "another", "not currently configured"),
        ({"aud": "https://x/", "appid": ADMINISTRATOR, "exp": VALID}, DIRECTORY.key, "not currently configured"),
        ({"aud": AUDIENCE, "appid": STRANGER, "exp": VALID}, DIRECTORY.key, "principal>'"),
    ],
    ids=["expired", "forged", "for another server", "nobody's"],
)
def test_a_token_that_is_not_for_it_is_refused(
    server: SqlServerDouble, claims: dict[str, Any], key: str, told: str
) -> None:
    with pytest.raises(mssql_python.Error, match="Login failed for user '<token-identified principal>'") as caught:
        log_in(server, Provider(claims, key))
    assert told in str(caught.value)


def test_a_user_of_an_application_is_made_by_an_administrator_of_entra_id_and_is_in_that_database_alone(
    server: SqlServerDouble,
) -> None:
    with pytest.raises(mssql_python.Error, match="Only connections established with Active Directory accounts"):
        create_user(server, None, "etl app")
    with pytest.raises(mssql_python.Error, match="Login failed"):
        log_in(server, token_of(APPLICATION))
    with pytest.raises(mssql_python.Error, match="could not be found"):
        create_user(server, token_of(ADMINISTRATOR), "another app")
    create_user(server, token_of(ADMINISTRATOR), "etl app")
    log_in(server, token_of(APPLICATION)).close()
    with pytest.raises(mssql_python.Error, match="Login failed"):
        log_in(server, token_of(APPLICATION), "master")
