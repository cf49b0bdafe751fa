"""The command line of `scripts/doctor.sh`."""

from collections.abc import Sequence

from ops.cluster.access import UnreachableError
from ops.cluster.console import INTERRUPTED, Console, new_parser
from ops.cluster.kubectl import Kubectl
from ops.doctor.checks import CHECKS
from ops.doctor.findings import Verdict, evaluate
from ops.doctor.gathering import SECONDS, gather
from ops.doctor.report import as_json, as_text

WELL, WRONG, NOT_SEEN = 0, 1, 2
_ABOUT = """\
Diagnoses the running deployment (the cluster, its nodes, storage, pods, both databases, Airflow, its DAGs, logs and
metrics): what is wrong, where, and what to do. Problems that only follow from another one are listed with it. Takes
less than half a minute.

Changes nothing: temporary pods of the ETL image try source, sink and staging, and on each node whether network policies
are enforced. The login pages are opened from this machine. No password is shown.

The cluster is the one of KUBECONFIG, else the K3s of this machine (with sudo).
"""
_CODES = "exit codes: 0 all is well; 1 something is wrong; 2 not everything could be checked"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = new_parser("scripts/doctor.sh", _ABOUT)
    parser.epilog = _CODES
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    options = parser.parse_args(arguments)
    console = Console()
    try:
        seen = gather((lambda _: None) if options.json else console.say, Kubectl(SECONDS))
    except UnreachableError as error:
        console.fail(str(error))
        return NOT_SEEN
    except KeyboardInterrupt:
        console.fail("Stopped before all was looked at.")
        return INTERRUPTED
    verdict = evaluate(CHECKS, seen)
    console.show(as_json(verdict) if options.json else f"\n{as_text(verdict)}")
    return exit_code(verdict)


def exit_code(verdict: Verdict) -> int:
    """The exit code of a verdict."""
    if verdict.causes:
        return WRONG
    return NOT_SEEN if verdict.unseen else WELL
