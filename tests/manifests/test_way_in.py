"""The way in to Airflow and Grafana: over TLS, with secure cookies, and not by trying passwords."""

from urllib.parse import urlsplit

import pytest

from ops.cluster.ingresses import entry_points
from tests.harness.manifests.kustomizations import DEFAULT, K8S
from tests.harness.manifests.pods import Container, pods_of
from tests.harness.manifests.rendering import Manifest, Rendering, manifests, renderings
from tests.harness.manifests.rendering import rendering as overlay

FRONT_DOOR = K8S.parent / "airflow_image" / "etl_airflow" / "web" / "front_door.py"

each_rendering = pytest.mark.parametrize("rendering", renderings(), ids=str)


def container_of(rendering: Rendering, owner: str) -> Container:
    return next(pod for pod in pods_of(rendering) if pod.owner == owner).containers[0]


@pytest.mark.parametrize("ingress", manifests("Ingress"), ids=str)
def test_the_ui_is_reached_over_tls_alone(ingress: Manifest) -> None:
    annotations = ingress.object["metadata"]["annotations"]
    if entry_points(ingress.object) == ["websecure"]:
        assert annotations["traefik.ingress.kubernetes.io/router.tls"] == "true"
        return
    # Plain HTTP leads only to the redirect to HTTPS.
    assert entry_points(ingress.object) == ["web"]
    (path,) = [path for rule in ingress.spec["rules"] for path in rule["http"]["paths"]]
    assert path["backend"]["service"]["name"] == "airflow-api-server"
    assert "x-forwarded-proto" in FRONT_DOOR.read_text()


@each_rendering
def test_plain_http_is_answered_wherever_tls_is(rendering: Rendering) -> None:
    (plain,) = [item for item in rendering.of_kind("Ingress") if entry_points(item) == ["web"]]
    assert [path["path"] for rule in plain["spec"]["rules"] for path in rule["http"]["paths"]] == ["/"]
    assert "host" not in plain["spec"]["rules"][0]


@each_rendering
def test_people_and_workers_come_to_ports_of_their_own(rendering: Rendering) -> None:
    container = container_of(rendering, "Deployment/airflow-api-server")
    ports = {port["name"]: port["containerPort"] for port in container.content["ports"]}
    assert container.environment()["ETL_UI_PORT"] == str(ports["ui"])
    assert container.environment()["ETL_WORKERS_PORT"] == str(ports["workers"])
    service = rendering.find("Service", "airflow-api-server")
    assert service
    assert {port["name"]: port["port"] for port in service["spec"]["ports"]} == ports
    policy = rendering.find("NetworkPolicy", "airflow-api-server")
    assert policy
    led = {
        peer["podSelector"]["matchLabels"]["app.kubernetes.io/name"]: [port["port"] for port in rule["ports"]]
        for rule in policy["spec"]["ingress"]
        for peer in rule["from"]
    }
    assert led == {"traefik": [ports["ui"]], "airflow-worker": [ports["workers"]]}
    for ingress in rendering.of_kind("Ingress"):
        for path in (path for rule in ingress["spec"]["rules"] for path in rule["http"]["paths"]):
            backend = path["backend"]["service"]
            assert backend["name"] != "airflow-api-server" or backend["port"] == {"name": "ui"}


@each_rendering
def test_the_api_server_believes_pods_about_how_a_request_came_and_nobody_else(rendering: Rendering) -> None:
    environment = container_of(rendering, "Deployment/airflow-api-server").environment()
    assert environment["FORWARDED_ALLOW_IPS"] == "10.42.0.0/16"


@each_rendering
def test_workers_find_the_execution_api_at_their_port(rendering: Rendering) -> None:
    common = rendering.find("ConfigMap", "airflow-common")
    assert common
    url = urlsplit(common["data"]["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"])
    environment = container_of(rendering, "Deployment/airflow-api-server").environment()
    assert (url.port, url.path) == (int(environment["ETL_WORKERS_PORT"]), "/execution/")


@each_rendering
def test_airflow_s_cookies_are_secure_and_its_logins_bounded(rendering: Rendering) -> None:
    environment = container_of(rendering, "Deployment/airflow-api-server").environment()
    assert environment["AIRFLOW__FAB__COOKIE_SECURE"] == "True"
    assert environment["AIRFLOW__FAB__AUTH_RATE_LIMITED"] == "True"


def test_grafana_s_cookies_are_secure_its_logins_bounded_and_nobody_is_let_in_without() -> None:
    for name in (DEFAULT, "multi-node"):
        environment = container_of(overlay(name), "Deployment/grafana").environment()
        assert environment["GF_SECURITY_COOKIE_SECURE"] == "true"
        assert environment["GF_SECURITY_DISABLE_BRUTE_FORCE_LOGIN_PROTECTION"] == "false"
        assert environment["GF_AUTH_ANONYMOUS_ENABLED"] == "false"
        assert environment["GF_USERS_ALLOW_SIGN_UP"] == "false"
        assert not {key for key in environment if key.startswith(("GF_AUTH_PROXY", "GF_AUTH_BASIC", "GF_AUTH_JWT"))}
        assert environment["GF_SECURITY_ADMIN_PASSWORD"] == "(secret)"


def test_a_script_in_grafana_s_pages_is_grafana_s_own() -> None:
    environment = container_of(overlay(DEFAULT), "Deployment/grafana").environment()
    assert environment["GF_SECURITY_CONTENT_SECURITY_POLICY"] == "true"
    template = environment["GF_SECURITY_CONTENT_SECURITY_POLICY_TEMPLATE"]
    policy = dict(part.split(" ", 1) for part in template.split(";") if part)
    # With 'strict-dynamic' browsers heed the nonce in the place of 'unsafe-inline', which is for old ones.
    assert {"'strict-dynamic'", "$NONCE"} <= set(policy["script-src"].split())
    assert policy["object-src"] == "'none'"
    assert policy["base-uri"] == policy["form-action"] == policy["frame-ancestors"] == "'self'"
    assert "grafana.com" not in template
