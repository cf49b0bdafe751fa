"""Opens the login pages like a browser: by HTTPS at a node's address, under each host name that people use."""

import contextlib
import http.client
import socket
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ops.cluster.ingresses import entry_points
from ops.cluster.kubectl import NAMESPACE, Object
from ops.cluster.names import UI_SECRET

PORT, PLAIN_PORT = 443, 80
SECONDS = 8.0
_READ_BYTES = 1 << 18
_LOGIN = {"airflow": ("/auth/login/", b'id="loginbox"'), "grafana": ("/grafana/login", b"Grafana")}
"""The path of the login page behind an Ingress, and text on it."""
_EXPIRED, _OTHER_NAME = {9, 10}, {62, 64}
"""Codes of OpenSSL's verification (X509_V_ERR_…)."""
_TRAEFIKS_OWN = b"TRAEFIK DEFAULT CERT"
_TRAEFIK = "kubectl --namespace kube-system get pods,services --selector app.kubernetes.io/name=traefik"
_WHO_LISTENS = (
    "On the node, `ss --listening --tcp --numeric --processes 'sport = :{port}'` names a program that has the port"
)


@dataclass(frozen=True)
class PageProblem:
    """A page that does not open: URL, problem, advice, and the findings that would explain it."""

    url: str
    what: str
    do: str
    explained_by: tuple[str, ...] = ()


def login_pages(ingresses: Sequence[Object]) -> list[str]:
    """The Ingresses among these whose login page is known."""
    names = [item["metadata"]["name"] for item in ingresses if entry_points(item) != ["web"]]
    return [name for name in names if name in _LOGIN]


def missing_class(classes: Sequence[Object], ingresses: Sequence[Object]) -> PageProblem | None:
    """A missing IngressClass: no controller serves the Ingresses."""
    known = {item["metadata"]["name"] for item in classes}
    wanted = {item["spec"].get("ingressClassName", "") for item in ingresses} - {""}
    lacking = sorted(wanted - known)
    if not lacking:
        return None
    return PageProblem(
        f"ingressclass {lacking[0]}",
        f"Airflow and Grafana cannot be reached from outside: there is no IngressClass {lacking[0]}, so no"
        " controller serves their Ingresses.",
        "`kubectl --namespace kube-system get pods` shows whether K3s still installs its Traefik"
        " (helm-install-traefik). Where /etc/rancher/k3s/config.yaml disables it, take that out and restart K3s, or use"
        " `kubectl port-forward`.",
    )


def page_problems(address: str, names: Sequence[str], certificate: str, pages: Sequence[str]) -> Iterator[PageProblem]:
    """Why the UI on a node does not open, for each host name or address.

    `certificate` is that of the Secret, as PEM: the server must present it, or one that it has signed.
    """
    if not certificate:
        yield PageProblem(
            _url("https", names[0]),
            f"There is no certificate for the UI, as there is no Secret {UI_SECRET}: Traefik shows one of its own.",
            "scripts/apply-all.sh makes it.",
        )
        return
    reported = set()
    for name in names:
        found = _connection_problem(address, name, certificate)
        for one in [found] if found else _content_problems(address, name, certificate, pages):
            if one.what not in reported:
                reported.add(one.what)
                yield one
    if plain := _plain(address):
        yield plain


def _connection_problem(address: str, name: str, certificate: str) -> PageProblem | None:
    """Problems of connection, TLS and certificate."""
    url = _url("https", name)
    try:
        with _open(address, name, certificate):
            return None
    except ssl.SSLCertVerificationError as error:
        return _other_certificate(address, name, error.verify_code)
    except ssl.SSLError as error:
        return PageProblem(
            url,
            f"What answers at port {PORT} of {address} speaks no TLS ({error.reason or error}): it is not Traefik.",
            f"{_WHO_LISTENS.format(port=PORT)}: end it, or give it another port. Then restart K3s.",
        )
    except ConnectionRefusedError:
        return _refused(url, address, PORT)
    except TimeoutError:
        return PageProblem(
            url,
            f"Nobody answered at {address}, port {PORT}, within {SECONDS:.0f} s.",
            f"Let the port through the firewall of the node (`firewall-cmd --add-service=https --permanent`, `ufw allow"
            f" 443/tcp`) and on the way there; `{_TRAEFIK}` shows whether Traefik runs.",
        )
    except OSError as error:
        return PageProblem(url, f"{address}, port {PORT}, cannot be reached: {error}.", f"`{_TRAEFIK}` shows Traefik.")


def _other_certificate(address: str, name: str, code: int) -> PageProblem:
    url = _url("https", name)
    if code in _EXPIRED:
        return PageProblem(
            url,
            "The certificate of the UI has expired, or its time has not come.",
            f"Compare the clocks. Then `kubectl --namespace {NAMESPACE} delete secret {UI_SECRET}` and"
            " scripts/apply-all.sh, which makes another; or bring a new one of your authority.",
            (f"secret {NAMESPACE}/{UI_SECRET}",),
        )
    if code in _OTHER_NAME:
        return PageProblem(
            url,
            f"The certificate of the UI is not for {name}: browsers warn of it.",
            f"`scripts/apply-all.sh --ui-name {name}` makes one for it; one of your own has to name it.",
        )
    with contextlib.suppress(OSError), _open(address, name, "") as shown:
        if _TRAEFIKS_OWN in (shown.getpeercert(binary_form=True) or b""):
            return PageProblem(
                url,
                f"Traefik shows a certificate that it made itself, and not that of the Secret {UI_SECRET}.",
                f"`kubectl get tlsstores.traefik.io --all-namespaces`: there has to be one `default`, in {NAMESPACE},"
                " and no second; scripts/apply-all.sh makes it. Why it is not used says `kubectl --namespace"
                " kube-system logs --selector app.kubernetes.io/name=traefik`.",
                (f"secret {NAMESPACE}/{UI_SECRET}",),
            )
    return PageProblem(
        url,
        f"The certificate that is shown is not that of the Secret {UI_SECRET}.",
        f"{_WHO_LISTENS.format(port=PORT)} instead of Traefik. Else another Ingress or TLSStore brings one for {name}:"
        " `kubectl get ingresses,tlsstores.traefik.io --all-namespaces`.",
    )


def _content_problems(address: str, name: str, certificate: str, pages: Sequence[str]) -> Iterator[PageProblem]:
    """Login pages that do not come."""
    for page in pages:
        path, sign = _LOGIN[page]
        url = _url("https", name, path)
        try:
            with _open(address, name, certificate) as opened:
                status, text = _get(opened, name, path)
        except (OSError, http.client.HTTPException) as error:
            yield PageProblem(
                url, f"The connection broke before the page was there: {error}.", f"`{_TRAEFIK}` shows Traefik."
            )
            continue
        if status != 200 or sign not in text:
            yield PageProblem(url, *_not_the_page(page, status))


def _not_the_page(page: str, status: int) -> tuple[str, str, tuple[str, ...]]:
    namespace, service = (NAMESPACE, "airflow-api-server") if page == "airflow" else ("observability", page)
    behind = (f"service {namespace}/{service}", f"deployment {namespace}/{service}")
    if status == 404:
        return (
            f"Traefik knows no way to {page.capitalize()} (404).",
            f"`kubectl --namespace {namespace} get ingress {page}`: it has to be there, of the class traefik;"
            " scripts/apply-all.sh makes it.",
            behind,
        )
    if status in (502, 503, 504):
        return (
            f"Traefik does not reach {page.capitalize()} ({status}).",
            f"`kubectl --namespace {namespace} get pods --selector app.kubernetes.io/name={service}`: one has to be"
            f" ready. The NetworkPolicy {service} lets Traefik in by its label app.kubernetes.io/name=traefik.",
            behind,
        )
    return (
        f"What is shown is not the login page of {page.capitalize()} (status {status}).",
        f"`kubectl --namespace {namespace} logs deployment/{service} --tail=50`; another Ingress may take the path:"
        " `kubectl get ingresses --all-namespaces`.",
        behind,
    )


def _plain(address: str) -> PageProblem | None:
    """HTTP must redirect to HTTPS."""
    url = _url("http", address)
    try:
        with socket.create_connection((address, PLAIN_PORT), SECONDS) as opened:
            status, _ = _get(opened, address, "/")
    except ConnectionRefusedError:
        return _refused(url, address, PLAIN_PORT)
    except (OSError, http.client.HTTPException) as error:
        status, response = 0, str(error)
    else:
        response = f"it answers {status}"
    if status in (301, 302, 307, 308):
        return None
    return PageProblem(
        url,
        f"Who comes to {address} without https:// is not sent there: {response}.",
        f"{_WHO_LISTENS.format(port=PLAIN_PORT)} instead of Traefik; `kubectl --namespace {NAMESPACE} get ingress"
        " airflow-plain` has to be there.",
        (f"service {NAMESPACE}/airflow-api-server",),
    )


def _refused(url: str, address: str, port: int) -> PageProblem:
    return PageProblem(
        url,
        f"Nobody answers at {address}, port {port}: the connection is refused.",
        f"`{_TRAEFIK}`: a pod has to run, and the Service needs an EXTERNAL-IP, which K3s's load balancer gives it"
        " while no other pod has the port (`kubectl --namespace kube-system get pods` shows svclb-traefik Pending)."
        " Where /etc/rancher/k3s/config.yaml disables traefik or servicelb, a way in of your own is needed.",
    )


@contextlib.contextmanager
def _open(address: str, name: str, certificate: str) -> Iterator[ssl.SSLSocket]:
    """A TLS connection, verified against `certificate` if one is given."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if certificate:
        # Accepts a self-signed certificate, and one given without its authority.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.load_verify_locations(cadata=certificate)
    else:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection((address, PORT), SECONDS) as plain,
        context.wrap_socket(plain, server_hostname=name) as opened,
    ):
        yield opened


def _get(opened: socket.socket, name: str, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(name)
    connection.sock = opened
    connection.request("GET", path, headers={"Connection": "close"})
    response = connection.getresponse()
    return response.status, response.read(_READ_BYTES)


def _url(scheme: str, name: str, path: str = "/") -> str:
    return f"{scheme}://[{name}]{path}" if ":" in name else f"{scheme}://{name}{path}"
