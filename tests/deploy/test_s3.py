"""A bucket instead of the shared claims: the component `k8s/s3`, built as docs/storage.md says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import boto3
import kubernetes_validate
import pytest
import yaml

from shared.settings import ParitySettings
from shared.store import Store
from tests.deploy.conftest import OVERLAYS, ROOT, kustomize, of_kind, pod_of, workloads
from tests.shared.object_store import ENVIRONMENT, object_server

Objects = list[dict[str, Any]]
NAME = "app.kubernetes.io/name"
BUCKET = "my-bucket"


def documented() -> dict[str, Any]:
    """The kustomization that the documentation tells users to write."""
    (block,) = re.findall(r"```yaml\n(namespace: mpa\n.*?)```", (ROOT / "docs/storage.md").read_text(), re.DOTALL)
    return {**yaml.safe_load(block), "kind": "Kustomization", "apiVersion": "kustomize.config.k8s.io/v1beta1"}


@pytest.fixture(params=OVERLAYS, scope="module")
def objects(request: pytest.FixtureRequest) -> Objects:
    """An overlay with all components that use the store."""
    content = {**documented(), "resources": [f"../overlays/{request.param}"]}
    return kustomize(yaml.safe_dump({**content, "components": ["../batch", "../doctor", *content["components"]]}))


@pytest.fixture(scope="module")
def users() -> set[str]:
    """The workloads that mount the claim without the component."""
    content = {**documented(), "components": ["../batch", "../doctor", "../gc"]}
    del content["patches"]
    found = workloads(kustomize(yaml.safe_dump(content)))
    return {i["metadata"]["name"] for i in found if "store" in [v["name"] for v in pod_of(i)["spec"]["volumes"]]}


def settings_of(objects: Objects) -> dict[str, str]:
    (found,) = [i for i in of_kind(objects, "ConfigMap") if i["metadata"]["name"].startswith("settings")]
    return found["data"]


def test_pods_that_had_the_claim_have_the_keys_and_no_claim_is_left(objects: Objects, users: set[str]) -> None:
    assert len(users) == 7
    having = set()
    for item in workloads(objects):
        spec = pod_of(item)["spec"]
        (container,) = spec["containers"]
        volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
        mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
        assert not [volume for volume in volumes.values() if "persistentVolumeClaim" in volume]
        own = {t["metadata"]["name"] for t in item["spec"].get("volumeClaimTemplates", [])}
        assert set(mounts) == set(volumes) | own
        if "s3" in volumes:
            having.add(item["metadata"]["name"])
            assert volumes["s3"]["secret"] == {"secretName": "mpa-s3", "optional": True, "defaultMode": 0o440}
            folder, key = settings_of(objects)["AWS_SHARED_CREDENTIALS_FILE"].rsplit("/", 1)
            assert mounts["s3"] == {"name": "s3", "mountPath": folder, "readOnly": True} and key == "credentials"
    assert having == users
    assert not [item for item in objects if item["kind"] == "PersistentVolumeClaim"]


def test_pods_that_use_the_bucket_may_connect_to_it(objects: Objects, users: set[str]) -> None:
    pods = {item["metadata"]["name"]: pod_of(item)["metadata"]["labels"][NAME] for item in workloads(objects)}
    (policy,) = [i["spec"] for i in of_kind(objects, "NetworkPolicy") if i["metadata"]["name"] == "s3"]
    (expression,) = policy["podSelector"]["matchExpressions"]
    assert set(expression["values"]) == {pods[name] for name in users}
    assert policy["policyTypes"] == ["Egress"] and "ingress" not in policy
    (rule,) = policy["egress"]
    assert [port["port"] for port in rule["ports"]] == [443]


def test_images_of_what_uses_the_bucket_can_speak_to_it(objects: Objects, users: set[str]) -> None:
    for item in workloads(objects):
        if item["metadata"]["name"] in users:
            name = re.split(r"[-:]", pod_of(item)["spec"]["containers"][0]["image"])[1]
            assert re.search(r"\[[a-z,-]*\bs3\]", (ROOT / f"services/{name}/Dockerfile").read_text()), name


def test_all_of_it_is_valid(objects: Objects) -> None:
    for item in objects:
        if item["kind"] in ("Deployment", "CronJob", "NetworkPolicy", "ConfigMap"):
            for version in ("1.31", "1.37"):
                kubernetes_validate.validate(item, version, strict=True)


def test_a_bucket_that_nobody_named_is_called_so() -> None:
    content = documented()
    del content["patches"]
    assert settings_of(kustomize(yaml.safe_dump(content)))["MPA_STORE"] == "s3://set-your-bucket/mpa"


@pytest.mark.slow
def test_its_settings_and_its_secret_open_the_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of a pod, except for the store's address and the file's path, which are those of this machine."""
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    environment = settings_of(kustomize(yaml.safe_dump(documented())))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    file = tmp_path / "credentials"
    file.write_text("[default]\naws_access_key_id = root\naws_secret_access_key = root\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("MPA_DATA_DIR", str(tmp_path))
    settings = ParitySettings()
    assert settings.image_roots == []
    with object_server(tmp_path) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.url)
        region = {"LocationConstraint": environment["AWS_DEFAULT_REGION"]}
        boto3.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration=region)
        store = Store(settings.store)
        assert store.create("a/b", b"1") and not store.create("a/b", b"2")
        assert store.read("a/b") == b"1" and store.list("a") == ["a/b"]
