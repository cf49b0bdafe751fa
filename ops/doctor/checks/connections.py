"""Source, sink, staging and metadata database, as the probe pods find them."""

from collections.abc import Callable, Iterator, Set

from ops.cluster.kubectl import NAMESPACE
from ops.cluster.names import SOURCE
from ops.doctor.checks.cluster import DNS
from ops.doctor.findings import Finding
from ops.doctor.snapshot import Answer, Snapshot, subject

_AWAY = ("port", "connection", "silent", "settings")
"""The problems of `etl check` for a server that does not answer."""
_SETTINGS = {DNS, f"secret {NAMESPACE}/etl-connections", f"configmap {NAMESPACE}/etl-connections"}
_OF_SOURCE = _SETTINGS | {f"endpointslice {NAMESPACE}/{SOURCE}", f"service {NAMESPACE}/{SOURCE}"}
_OF_SINK = _SETTINGS | {f"service {NAMESPACE}/mssql-svc"}
_OF_METADATA = {DNS, f"secret {NAMESPACE}/airflow-metadata", f"service {NAMESPACE}/metadata-postgres"}
_FROM = "from the nodes' addresses, from 10.42.0.0/16 where it runs on a node itself"
"""The addresses of pods at the source: traffic that leaves their network has the node's address."""


def _failed(
    name: str, problems: tuple[str, ...], what: str, do: str, explained_by: Set[str]
) -> Callable[[Snapshot], Iterator[Finding]]:
    """The check for a server that `etl check` found one of these problems with; `what` may have {where}, {message}."""

    def find(seen: Snapshot) -> Iterator[Finding]:
        if answer := _answer(seen, name, *problems):
            text = what.format(where=answer.where, message=answer.message)
            yield Finding(name, text, do, explained_by=explained_by)

    return find


def _name_unknown(name: str, setting: str, explained_by: Set[str]) -> Callable[[Snapshot], Iterator[Finding]]:
    return _failed(
        name,
        ("name",),
        f"Pods cannot find the {name} {{where}}: {{message}}",
        f"Correct the name in {setting} (ConfigMap etl-connections), or make it known to the DNS that the cluster"
        " asks. Where it is a Service of the cluster that is gone: scripts/apply-all.sh.",
        explained_by,
    )


def _answer(seen: Snapshot, name: str, *problems: str) -> Answer | None:
    answer = seen.answers.get(name)
    return answer if answer and answer.problem in problems else None


def _no_token(name: str, explained_by: Set[str]) -> Callable[[Snapshot], Iterator[Finding]]:
    return _failed(
        name,
        ("endpoint", "token"),
        f"There is no token to log in to the {name} {{where}}: {{message}}",
        "Where the endpoint does not answer: the component service-principal lets pods reach Entra ID (a firewall must,"
        " too), managed-identity the node's own. Where it refuses: correct ENTRA_TENANT and ENTRA_CLIENT_ID in the"
        " ConfigMap etl-connections, or ENTRA_CLIENT_SECRET in the Secret, and restart airflow-api-server"
        " (docs/operations.md, Logins of Entra ID).",
        explained_by,
    )


source_name_unknown = _name_unknown("source", "SOURCE_URL", _OF_SOURCE)


def source_unreachable(seen: Snapshot) -> Iterator[Finding]:
    """A source that does not answer."""
    if answer := _answer(seen, "source", *_AWAY):
        addresses = ", ".join(seen.ready_endpoints(SOURCE))
        yield Finding(
            "source",
            f"The source {answer.where}{f' at {addresses}' if addresses else ''} cannot be reached: {answer.message}",
            "Is that Postgres up, does it listen on that address (listen_addresses), does a firewall let pods through,"
            f" which come {_FROM}? Another address: `scripts/apply-all.sh --source-address IP`. Where its certificate"
            " is what is wrong: --source-name and --source-ca (docs/operations.md, TLS).",
            explained_by=_OF_SOURCE,
        )


source_token = _no_token("source", _OF_SOURCE)
source_login = _failed(
    "source",
    ("login",),
    "The source {where} does not let the pipelines in: {message}",
    "A password: put the right one into the Secret etl-connections (SOURCE_PASSWORD) and restart airflow-api-server. No"
    f" entry in pg_hba.conf: add one there for the pods, which come {_FROM}.",
    _OF_SOURCE,
)
source_not_readable = _failed(
    "source",
    ("table", "database"),
    "In the source {where}, {message}",
    "At the source: `GRANT SELECT ON TABLE … TO` the user of SOURCE_URL, and USAGE on its schema; or correct the name"
    " in the DAG's file, or the database in the ConfigMap etl-connections.",
    _OF_SOURCE,
)
sink_name_unknown = _name_unknown("sink", "SINK_URL", _OF_SINK)
sink_unreachable = _failed(
    "sink",
    _AWAY,
    "The sink {where} cannot be reached: {message}",
    "Is that SQL Server up, and does a firewall let the pods through? Where it answers but not as it should:"
    " docs/operations.md, TLS.",
    _OF_SINK,
)
sink_token = _no_token("sink", _OF_SINK)
sink_login = _failed(
    "sink",
    ("login",),
    "The sink {where} does not let the pipelines in: {message}",
    "The login is not there, or its password is not the one in the Secret etl-connections (SINK_PASSWORD): delete the"
    " Job mssql-init-job and run scripts/apply-all.sh, which gives the login the Secret's password. With SINK_AUTH the"
    " Job makes the user of the identity.",
    _OF_SINK | {f"job {NAMESPACE}/mssql-init-job"},
)
# The server accepts the login, and the database is not available.
sink_recovering = _failed(
    "sink",
    ("recovering",),
    "The sink {where} is up, and its database does not open: {message}",
    "After a restart of the server it opens once it is recovered, and the tasks' next tries go on. One that is OFFLINE,"
    " SUSPECT or RESTORING for long: the server's log, and docs/operations.md, Backup and restore.",
    _OF_SINK,
)
# The sink has not what every load needs.
sink_not_prepared = _failed(
    "sink",
    ("unprepared", "database"),
    "The sink {where} is not prepared for loads: {message}",
    "Delete the Job mssql-init-job and run scripts/apply-all.sh: it makes database, schemas, tables, login and grants"
    " where they are missing, and changes nothing else.",
    _OF_SINK | {f"job {NAMESPACE}/mssql-init-job"},
)
metadata_login = _failed(
    "metadata",
    ("login",),
    "Airflow's database refuses the password that Airflow has: {message}",
    "The database keeps the password of its first start. Put that one back into the Secret (it is in"
    " generated-secrets.json beside the data), or give the user airflow the Secret's: ALTER ROLE in the pod.",
    _OF_METADATA,
)
# It has no tables, or those of another version.
metadata_not_migrated = _failed(
    "metadata",
    ("unprepared",),
    "{message}",
    "Run scripts/apply-all.sh, whose Job airflow-migrate does it. Where there were tables before, the data folder is"
    " another one, or empty: look at the volume etl-poc-metadata first.",
    _OF_METADATA | {f"job {NAMESPACE}/airflow-migrate"},
)


def metadata_down(seen: Snapshot) -> Iterator[Finding]:
    """Airflow's database does not answer."""
    answer = _answer(seen, "metadata", *_AWAY, "name", "database")
    unwell = seen.airflow.health.get("metadatabase", {}).get("status", "healthy") != "healthy"
    if answer or unwell:
        yield Finding(
            "metadata",
            answer.message if answer else "Airflow says that it cannot use its metadata database.",
            f"`kubectl --namespace {NAMESPACE} get pods --selector app.kubernetes.io/name=metadata-postgres` and the"
            " log of that pod; Airflow goes on by itself when it is back.",
            explained_by=_OF_METADATA,
        )


def staging_not_writable(seen: Snapshot) -> Iterator[Finding]:
    """Staging that steps cannot write to."""
    if answer := _answer(seen, "staging", "write", "settings", "silent", "connection"):
        local = answer.where.startswith("file:")
        yield Finding(
            "staging",
            f"A step cannot write to staging ({answer.where}): {answer.message}",
            "The volume etl-poc-staging: is its disk full (docs/runbooks/VolumeFilling.md), read-only, or somebody"
            " else's? Its folder belongs to user and group 10001."
            if local
            else "The bucket: is it there, do the keys in the Secret etl-connections let it be written, is the endpoint"
            " (AWS_ENDPOINT_URL) right?",
            explained_by={subject("PersistentVolumeClaim", "etl-staging", NAMESPACE)} | _SETTINGS,
        )
