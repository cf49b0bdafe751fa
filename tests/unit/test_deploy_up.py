"""`apply-all.sh`: what it does to a cluster, in which order, and that it may be repeated at any time."""

import base64
import json
import re
import shutil
import tomllib
from typing import Any

import pytest

from ops.deploy.cli import main
from ops.deploy.manifests.overlays import ROOT
from ops.deploy.secrets.secrets import KEPT_FILE
from ops.deploy.up import NOT_ALL_READY
from tests.doubles.fake_cluster import (
    SOURCE_PASSWORD,
    FakeCluster,
    named,
    node,
    volume,
    without_namespace,
)


def without(cluster: FakeCluster, option: str) -> list[str]:
    return [word for word in cluster.arguments() if not word.startswith(option)]


def applied(cluster: FakeCluster) -> list[list[str]]:
    """The objects applied together, in order."""
    return [
        [f"{item['kind']}/{item['metadata']['name']}" for item in json.loads(call["stdin"])["items"]]
        for call in cluster.calls("apply")
    ]


def secrets(cluster: FakeCluster) -> dict[str, dict[str, str]]:
    return {
        item["metadata"]["name"]: {key: base64.b64decode(value).decode() for key, value in item["data"].items()}
        for item in cluster.objects.values()
        if item["kind"] == "Secret"
    }


def passwords(cluster: FakeCluster) -> dict[str, dict[str, str]]:
    """Without the certificates, which may be others at any time."""
    return {name: keys for name, keys in secrets(cluster).items() if not name.endswith("-tls")}


def template_of(cluster: FakeCluster, key: str) -> dict[str, Any]:
    template: dict[str, Any] = cluster.objects[key]["spec"]["template"]
    return template


def test_what_does_not_need_each_other_is_applied_at_once_jobs_after_databases_and_before_airflow(
    cluster: FakeCluster,
) -> None:
    assert main(cluster.arguments()) == 0
    assert [set(step) for step in applied(cluster)] == [
        # What is let through is so from the beginning, whatever part it is of.
        {"Namespace/etl-poc", "Namespace/observability", "ConfigMap/settings", "ConfigMap/etl-connections"}
        | {"NetworkPolicy/source-postgres", "NetworkPolicy/airflow-scheduler"},
        {"Secret/mssql-tls"},
        {"Secret/ui-tls"},
        {"ConfigMap/etl-trust"},
        {f"PersistentVolume/etl-poc-{name}" for name in ("mssql", "metadata", "staging")}
        | {"PersistentVolumeClaim/mssql", "EndpointSlice/source-postgres"}
        # Loki before what sends its logs there.
        | {"StatefulSet/mssql", "StatefulSet/metadata-postgres", "StatefulSet/loki", "Ingress/grafana"},
        {"Job/mssql-init-job", "Job/airflow-migrate", "Ingress/airflow"},
        {"Deployment/airflow-scheduler"},
    ]
    verbs = [next(word for word in call["argv"] if not word.startswith("-")) for call in cluster.changes()]
    # The images and the label of the node first, the Secrets as soon as there is a namespace.
    assert verbs[:5] == ["annotate", "annotate", "label", "apply", "create"]


def test_secrets_are_generated_and_shown_nowhere(cluster: FakeCluster) -> None:
    assert main(cluster.arguments()) == 0
    made = secrets(cluster)
    assert {name: sorted(keys) for name, keys in made.items()} == {
        "etl-connections": ["MASK_KEY", "SINK_PASSWORD", "SOURCE_PASSWORD"],
        "mssql": ["MSSQL_SA_PASSWORD"],
        "sink-exporter": ["SINK_EXPORTER_PASSWORD"],
        "sink-backup": ["SINK_BACKUP_PASSWORD"],
        "airflow-metadata": ["METADATA_PASSWORD"],
        "airflow-metadata-admin": ["METADATA_ADMIN_PASSWORD"],
        "database-exporter": ["METADATA_EXPORTER_PASSWORD"],
        "airflow-keys": [
            "AIRFLOW__API_AUTH__JWT_SECRET",
            "AIRFLOW__API__SECRET_KEY",
            "AIRFLOW__CORE__FERNET_KEY",
        ],
        "airflow-admin": ["ADMIN_PASSWORD"],
        "grafana-admin": ["ADMIN_PASSWORD"],
        "mssql-tls": ["tls.crt", "tls.key"],
        "ui-tls": ["tls.crt", "tls.key"],
    }
    assert cluster.objects["Secret/grafana-admin"]["metadata"]["namespace"] == "observability"
    assert made["etl-connections"]["SOURCE_PASSWORD"] == SOURCE_PASSWORD
    values = [value for keys in made.values() for value in keys.values()]
    assert len(set(values)) == len(values)
    shown = "".join(cluster.said()) + json.dumps([call["argv"] for call in cluster.calls()])
    shown += "".join(cluster.tools())
    for value in values:
        assert value not in shown
        assert base64.b64encode(value.encode()).decode() not in shown


@pytest.mark.parametrize("cluster", [False, True], indirect=True, ids=["", "by process"])
def test_a_second_run_changes_nothing(cluster: FakeCluster) -> None:
    assert main(cluster.arguments()) == 0
    before = cluster.objects
    cluster.forget_calls()
    assert main(without(cluster, "--source-password-file")) == 0
    assert cluster.objects == before
    assert {call["argv"][1] for call in cluster.changes()} == {"apply"}
    assert cluster.imported() == []


def test_the_overlay_stays_until_another_is_given_which_is_told(cluster: FakeCluster) -> None:
    assert main(cluster.arguments()) == 0
    before = cluster.objects
    assert main(without(cluster, "--overlay")) == 0
    assert cluster.objects == before
    assert "is removed" not in cluster.said().out
    another = shutil.copytree(cluster.overlay, cluster.folder / "another")
    for _ in range(2):
        assert main([*without(cluster, "--overlay"), f"--overlay={another}"]) == 0
    told = cluster.said().out
    assert told.count(f"The overlay becomes {another}: what only {cluster.overlay} has is removed.") == 1


def test_an_image_built_anew_under_its_tag_is_imported_and_rolled_out(cluster: FakeCluster) -> None:
    assert main(cluster.arguments()) == 0
    scheduler, server = (template_of(cluster, key) for key in ("Deployment/airflow-scheduler", "StatefulSet/mssql"))
    (cluster.folder / "build-number").write_text("2")
    cluster.forget_calls()
    assert main(cluster.arguments()) == 0
    assert cluster.imported() == ["localhost/etl-airflow:0.1.0", "localhost/etl:0.1.0"]
    assert template_of(cluster, "Deployment/airflow-scheduler") != scheduler
    assert template_of(cluster, "StatefulSet/mssql") == server
    # Both Jobs take an image that is new, and cannot be changed.
    assert len(cluster.calls("delete")) == 2


@pytest.mark.parametrize("setting", ["SINK_AUTH", "SOURCE_AUTH"])
def test_airflow_s_image_has_the_driver_of_tokens_where_they_log_in(cluster: FakeCluster, setting: str) -> None:
    def builds() -> list[str]:
        return [line for line in cluster.tools() if line.startswith("buildah build ")]

    assert main(cluster.arguments()) == 0
    assert not [line for line in builds() if "EXTRAS" in line]
    connections = next(item for item in cluster.objects_to_render if item["metadata"]["name"] == "etl-connections")
    connections["data"] = connections["data"] | {setting: "service-principal"}
    cluster.write_overlay()
    cluster.forget_calls()
    assert main(cluster.arguments()) == 0
    (airflow,) = [line for line in builds() if "EXTRAS" in line]
    assert "--tag=localhost/etl-airflow:0.1.0" in airflow
    (extra,) = re.findall(r"--build-arg=EXTRAS=--extra (\w+) ", airflow)
    project = tomllib.loads((ROOT / "airflow_image" / "pyproject.toml").read_text())["project"]
    assert project["optional-dependencies"][extra] == ["mssql-python"]
    (packages,) = re.findall(r"--build-arg=PACKAGES=([\w -]+?) /", airflow)
    of_steps = (ROOT / "etl_image" / "Dockerfile").read_text()
    assert set(packages.split()) <= set(of_steps.split())


def test_an_image_that_the_node_lost_is_imported_again(cluster: FakeCluster) -> None:
    assert main(cluster.arguments()) == 0
    lost = cluster.objects["Node/one"]
    lost["status"]["images"].pop()
    cluster.change("Node/one", lost)
    cluster.forget_calls()
    assert main(cluster.arguments()) == 0
    assert cluster.imported() == ["localhost/etl-airflow:0.1.0"]


def test_imported_images_are_pinned_each_time_and_leave_no_copy(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    (scratch := cluster.folder / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    for _ in range(2):
        cluster.forget_calls()
        assert main(cluster.arguments()) == 0
        assert cluster.pinned() == ["localhost/etl-airflow:0.1.0", "localhost/etl:0.1.0"]
    assert not [line for line in cluster.tools() if str(scratch) in line and "docker-archive" in line]
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize(
    ("offered", "flags"), [("--local --discard-unpacked-layers", " --local --discard-unpacked-layers"), ("--local", "")]
)
def test_containerd_keeps_no_archive_of_what_it_has_unpacked_where_it_can(
    cluster: FakeCluster, offered: str, flags: str
) -> None:
    (cluster.folder / "flags-of-import").write_text(offered)
    assert main(cluster.arguments()) == 0
    assert cluster.tools().count(f"import-stub images import{flags} /dev/stdin") == 2
    assert cluster.imported() == ["localhost/etl-airflow:0.1.0", "localhost/etl:0.1.0"]
    assert cluster.pinned() == cluster.imported()


def test_an_import_that_fails_says_so_and_one_that_cannot_pin_goes_on(cluster: FakeCluster) -> None:
    (cluster.folder / "import-fails").touch()
    assert main(cluster.arguments()) == 1
    assert "Importing localhost/etl-airflow:0.1.0 into the node failed (`import-stub images" in cluster.said().err
    (cluster.folder / "import-fails").unlink()
    words = without(cluster, "--import-command")
    assert main([*words, f"--import-command={cluster.path}/import-stub anyhow import "]) == 0
    assert "Pin them yourself" in cluster.said().out


def test_changed_settings_are_rolled_out(cluster: FakeCluster) -> None:
    assert main(cluster.arguments()) == 0
    before = template_of(cluster, "StatefulSet/mssql")
    cluster.objects_to_render = [
        item | {"data": {"A": "2"}} if item["kind"] == "ConfigMap" else item for item in cluster.objects_to_render
    ]
    cluster.write_overlay()
    assert main(cluster.arguments()) == 0
    assert template_of(cluster, "StatefulSet/mssql") != before


def test_the_images_of_the_version_before_stay_allowed_until_the_next_one(cluster: FakeCluster) -> None:
    """Its scheduler makes workers until the new one is ready, and its workers make steps until their tasks end."""
    worker = "AIRFLOW__KUBERNETES_EXECUTOR__WORKER_CONTAINER"

    def allowed_after(version: str) -> Any:
        images = {"ETL_IMAGE": f"example.com/etl:{version}"}
        images |= {f"{worker}_REPOSITORY": "example.com/airflow", f"{worker}_TAG": version}
        cluster.objects_to_render = [
            *(item for item in cluster.objects_to_render if item["metadata"]["name"] != "airflow-common"),
            named("ConfigMap", "airflow-common", "airflow") | {"data": images},
        ]
        cluster.write_overlay()
        assert main(cluster.arguments()) == 0
        annotations = cluster.objects["ConfigMap/airflow-common"]["metadata"].get("annotations", {})
        return annotations.get("etl-poc/images-before")

    assert allowed_after("1") is None
    assert allowed_after("1") is None
    # Also where it is run again because it did not come to its end.
    assert {allowed_after("2"), allowed_after("2")} == {"example.com/airflow:1 example.com/etl:1"}
    assert allowed_after("3") == "example.com/airflow:2 example.com/etl:2"


def test_what_an_earlier_overlay_had_goes_but_no_data_and_nothing_of_anybody_else(cluster: FakeCluster) -> None:
    owned = named("EndpointSlice", "pgbouncer-x7", "metadata")
    owned["metadata"]["ownerReferences"] = [{"kind": "Service", "name": "pgbouncer"}]
    stays = [
        named("PersistentVolumeClaim", "old", "storage"),
        named("ConfigMap", "theirs", "shop"),
        owned,
        named("Deployment", "theirs", "observability", "monitoring"),
        without_namespace(named("ClusterRole", "theirs", "observability")),
    ]
    goes = [
        named("Deployment", "pgbouncer", "metadata"),
        named("ConfigMap", "airflow-config-old", "airflow"),
        named("DaemonSet", "fluent-bit", "observability", "observability-node"),
        without_namespace(named("ClusterRole", "etl-poc-fluent-bit", "observability")),
        without_namespace(named("ValidatingAdmissionPolicy", "etl-poc-old", "airflow")),
        without_namespace(named("ValidatingAdmissionPolicyBinding", "etl-poc-old", "airflow")),
    ]
    for item in stays + goes:
        cluster.change(f"{item['kind']}/{item['metadata']['name']}", item)
    assert main([*cluster.arguments(), "--dry-run"]) == 0
    assert "delete Deployment pgbouncer" in cluster.said().out
    assert main(cluster.arguments()) == 0
    there = cluster.objects.keys()
    assert {f"{item['kind']}/{item['metadata']['name']}" for item in stays} <= there
    assert not {f"{item['kind']}/{item['metadata']['name']}" for item in goes} & there


def test_secrets_that_are_there_stay_and_only_missing_keys_are_added(cluster: FakeCluster) -> None:
    mine = named("Secret", "etl-connections", "") | {"data": {"SINK_PASSWORD": "bWluZQ=="}}
    cluster.change("Secret/etl-connections", mine)
    assert main(cluster.arguments()) == 0
    found = secrets(cluster)["etl-connections"]
    assert len(found.pop("MASK_KEY")) > 40
    assert found == {"SINK_PASSWORD": "mine", "SOURCE_PASSWORD": SOURCE_PASSWORD}
    (patch,) = cluster.calls("patch")
    # Refused by the server where somebody changes the Secret in between.
    assert json.loads(patch["stdin"])["metadata"]["resourceVersion"] == "7"


def test_data_is_readable_again_after_the_namespace_was_deleted(cluster: FakeCluster) -> None:
    assert main(cluster.arguments()) == 0
    before = passwords(cluster)
    (cluster.data / "mssql" / "data.mdf").touch()
    cluster.set(objects={"Node/one": node("one")})
    assert main(cluster.arguments()) == 0
    assert passwords(cluster) == before
    assert (cluster.data / KEPT_FILE).stat().st_mode & 0o777 == 0o600


def test_data_without_its_password_is_not_touched(cluster: FakeCluster) -> None:
    (cluster.data / "mssql").mkdir(parents=True)
    (cluster.data / "mssql" / "data.mdf").touch()
    assert main(cluster.arguments()) == 1
    assert "mssql holds data, but its password (Secret mssql" in cluster.said().err
    assert cluster.changes() == []


def test_data_folders_belong_to_the_databases_and_existing_ones_are_left_alone(cluster: FakeCluster) -> None:
    (cluster.data / "staging").mkdir(parents=True)
    assert main(cluster.arguments()) == 0
    assert cluster.owners == {"mssql": (10001, 10001), "metadata": (999, 999)}
    assert (cluster.data / "metadata").stat().st_mode & 0o7777 == 0o750
    assert cluster.objects["PersistentVolume/etl-poc-mssql"]["spec"]["local"]["path"] == str(cluster.data / "mssql")


def test_without_data_folder_the_volumes_stay_where_they_are(cluster: FakeCluster) -> None:
    assert main(cluster.arguments()) == 0
    words = without(cluster, "--data-folder")
    assert main(words) == 0
    assert cluster.objects["PersistentVolume/etl-poc-mssql"]["spec"]["local"]["path"] == str(cluster.data / "mssql")
    assert main([*words, "--data-folder=/elsewhere"]) == 1


def test_a_released_volume_is_bound_again_with_its_data(cluster: FakeCluster) -> None:
    released = volume("mssql") | {"status": {"phase": "Released"}}
    released["spec"]["local"]["path"] = str(cluster.data / "mssql")
    (cluster.data / "mssql").mkdir(parents=True)
    cluster.change("PersistentVolume/etl-poc-mssql", released)
    assert main(cluster.arguments()) == 0
    (patch,) = cluster.calls("patch")
    assert '--patch={"spec": {"claimRef": {"uid": null, "resourceVersion": null}}}' in patch["argv"]


@pytest.mark.parametrize(
    ("given", "live", "expected"),
    [
        ([], None, "203.0.113.5"),
        ([], "198.51.100.7", "198.51.100.7"),
        ([], "192.0.2.10", "203.0.113.5"),
        (["--source-address", "198.51.100.9"], "198.51.100.7", "198.51.100.9"),
    ],
)
def test_the_source_is_where_it_was_told_or_was_before_or_on_the_node(
    cluster: FakeCluster, given: list[str], live: str | None, expected: str
) -> None:
    if live:
        slice_ = named("EndpointSlice", "source-postgres", "source") | {"endpoints": [{"addresses": [live]}]}
        cluster.change("EndpointSlice/source-postgres", slice_)
    assert main(cluster.arguments(*given)) == 0
    assert cluster.objects["EndpointSlice/source-postgres"]["endpoints"] == [{"addresses": [expected]}]
    (way,) = cluster.objects["NetworkPolicy/source-postgres"]["spec"]["egress"]
    assert way == {"to": [{"ipBlock": {"cidr": f"{expected}/32"}}], "ports": [{"port": 5433}]}


def test_every_problem_is_told_at_once_and_nothing_is_changed(cluster: FakeCluster) -> None:
    cluster.set(minor="29", objects={name: node(name, **{"etl-poc/data": "true"}) for name in ("one", "two")})
    arguments = without(cluster, "--source-password-file")
    assert main([*arguments, "--builder=podman", "--import-command=absent"]) == 1
    told = cluster.said().err
    for words in ("Kubernetes is 1.29", "take it from the others", "podman is not installed", "absent is not on PATH"):
        assert words in told
    assert cluster.changes() == []
    assert cluster.tools() == []


def test_a_missing_source_password_is_told(cluster: FakeCluster) -> None:
    assert main(without(cluster, "--source-password-file")) == 1
    assert "--source-password-file" in cluster.said().err


@pytest.mark.parametrize("cluster", [False, True], indirect=True, ids=["", "by process"])
def test_a_cluster_that_cannot_be_reached_is_told(cluster: FakeCluster) -> None:
    cluster.set(refuses=["version"])
    assert main(cluster.arguments()) == 1
    assert "run scripts/install-k3s.sh" in cluster.said().err


def test_a_dry_run_says_what_it_would_do_and_does_nothing(cluster: FakeCluster) -> None:
    assert main(cluster.arguments("--dry-run")) == 0
    told = cluster.said().out
    assert told.index("build localhost/etl:0.1.0 with buildah") < told.index("apply foundation: Namespace etl-poc")
    assert cluster.changes() == []
    assert not [line for line in cluster.tools() if "info" not in line]
    assert not cluster.data.exists()


def test_what_is_not_well_is_shown_with_its_reason_log_and_warnings(cluster: FakeCluster) -> None:
    waiting = {"name": "mssql", "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
    last = {"lastState": {"terminated": {"reason": "OOMKilled", "exitCode": 137}}}
    metadata = {"name": "mssql-0", "namespace": "etl-poc"}
    pod = {"metadata": metadata, "status": {"phase": "Running", "containerStatuses": [waiting | last]}}
    warning = {
        "metadata": {"namespace": "etl-poc"},
        "involvedObject": {"kind": "Pod", "name": "mssql-0"},
        "reason": "FailedMount",
        "message": "no such folder",
    }
    cluster.set(unready=["mssql"], pods=[pod], events=[warning], logs={"mssql-0": "the last words"})
    assert main(cluster.arguments("--timeout", "1s")) == 1
    told = cluster.said()
    assert "mssql CrashLoopBackOff, before that OOMKilled, exit code 137, 3 restarts" in told.out
    assert "the last words" in told.out
    assert "FailedMount" in told.out
    assert told.err == "Not ready after 1 s: mssql 0 of 1 ready.\n"
    # The steps after the one that failed were not touched.
    assert "Job/airflow-migrate" not in cluster.objects


def test_what_airflow_does_not_need_holds_nothing_up_and_is_named_at_the_end(cluster: FakeCluster) -> None:
    waiting = {"name": "loki", "state": {"waiting": {"reason": "CreateContainerError", "message": "no shared mount"}}}
    pod = {"metadata": {"name": "loki-0", "namespace": "observability"}, "status": {"containerStatuses": [waiting]}}
    cluster.set(unready=["loki"], pods=[pod])
    assert main(cluster.arguments("--timeout", "1s")) == NOT_ALL_READY
    assert cluster.objects["Deployment/airflow-scheduler"]["status"]["readyReplicas"] == 1
    told = cluster.said()
    assert told.out.index("Applying airflow") < told.out.index("loki CreateContainerError (no shared mount)")
    assert "https://203.0.113.5/ " in told.out
    assert told.err.startswith("Airflow is deployed, but not all that collects")
    assert "loki 0 of 1 ready" in told.err


def stateful_pod(name: str, revision: str, ready: str) -> dict[str, Any]:
    metadata = {
        "name": name,
        "namespace": "etl-poc",
        "labels": {"controller-revision-hash": revision},
        "ownerReferences": [{"name": "mssql"}],
    }
    return {"metadata": metadata, "status": {"conditions": [{"type": "Ready", "status": ready}]}}


def test_a_pod_that_holds_up_its_own_replacement_is_ended(cluster: FakeCluster) -> None:
    """A StatefulSet whose earlier template was wrong would wait for its pod for ever."""
    cluster.change("StatefulSet/mssql", named("StatefulSet", "mssql", "mssql") | {"status": {"updateRevision": "new"}})
    pods = [("stuck", "old", "False"), ("serving", "old", "True"), ("starting", "new", "False")]
    cluster.set(unready=["mssql"], pods=[stateful_pod(*pod) for pod in pods])
    assert main(cluster.arguments("--timeout", "1s")) == 1
    deleted = {call["argv"][call["argv"].index("pod") + 1] for call in cluster.calls("delete")}
    assert deleted == {"stuck"}


def test_a_failed_job_ends_the_wait_at_once_and_is_replaced_next_time(cluster: FakeCluster) -> None:
    cluster.set(failing=["mssql-init-job"])
    assert main(cluster.arguments()) == 1
    assert cluster.said().err == "Job mssql-init-job failed: the reason.\n"
    cluster.set(failing=[])
    assert main(cluster.arguments()) == 0
    assert len(cluster.calls("delete")) == 1


def test_the_end_names_the_address_and_the_command_that_shows_the_password(cluster: FakeCluster) -> None:
    assert main(cluster.arguments()) == 0
    told = cluster.said().out
    assert "https://203.0.113.5/ " in told
    assert 'get secret airflow-admin --output=go-template=\'{{index .data "ADMIN_PASSWORD" | base64decode}}' in told
    assert re.search("airflow-scheduler +1/1", told)
    assert "https://203.0.113.5/grafana " in told
    assert "--namespace observability get secret grafana-admin" in told
