"""Credentials of an object store come from the environment, by each way that a deployment gives them.

The server checks signatures and rights as S3 does: a call that works had the right credentials.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest

from shared.errors import Unavailable
from shared.store import Store
from shared.store import remote as remote_store
from tests.shared.object_store import ENVIRONMENT, ObjectServer, object_server

pytestmark = pytest.mark.slow
BUCKET = "strict"
MAY_ALL = [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]
ANY_TOKEN = [{"Effect": "Allow", "Action": "sts:AssumeRoleWithWebIdentity", "Principal": {"Federated": "cluster"}}]


@dataclass(frozen=True)
class Account:
    """What its owner made: a user's key, a role that may use the bucket, and one that may nothing."""

    server: ObjectServer
    key: str
    secret: str
    role: str
    poor_role: str


def policy(statements: object) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    with object_server(tmp_path_factory.mktemp("s3")) as server:
        root = {
            "endpoint_url": server.url,
            "region_name": ENVIRONMENT["AWS_DEFAULT_REGION"],
            "aws_access_key_id": "root",
            "aws_secret_access_key": "root",
        }
        iam = boto3.client("iam", **root)
        iam.create_user(UserName="mpa")
        iam.put_user_policy(UserName="mpa", PolicyName="p", PolicyDocument=policy(MAY_ALL))
        key = iam.create_access_key(UserName="mpa")["AccessKey"]
        roles = [
            iam.create_role(RoleName=name, AssumeRolePolicyDocument=policy(ANY_TOKEN))["Role"]["Arn"]
            for name in ("rich", "poor")
        ]
        iam.put_role_policy(RoleName="rich", PolicyName="p", PolicyDocument=policy(MAY_ALL))
        boto3.client("s3", **root).create_bucket(Bucket=BUCKET)
        server.check_signatures()
        yield Account(server, key["AccessKeyId"], key["SecretAccessKey"], *roles)


@pytest.fixture(autouse=True)
def bare(account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No credentials from anywhere, but for what a test gives."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL", account.server.url)
    monkeypatch.setattr(remote_store, "HTTP_ATTEMPTS", 1)


def give(monkeypatch: pytest.MonkeyPatch, **variables: str | Path) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"AWS_{name}", str(value))


def give_profiles(account: Account, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shared credentials file whose default profile nobody knows."""
    file = folder / "credentials"
    file.write_text(
        "[default]\naws_access_key_id = old\naws_secret_access_key = old\n"
        f"[mpa]\naws_access_key_id = {account.key}\naws_secret_access_key = {account.secret}\n"
    )
    give(monkeypatch, SHARED_CREDENTIALS_FILE=file)


def give_token(account: Account, folder: Path, monkeypatch: pytest.MonkeyPatch, role: str) -> Path:
    """What a Kubernetes service account is given; the file of the token."""
    file = folder / "token"
    file.write_text("header.claims.signature")
    give(monkeypatch, ROLE_ARN=role, WEB_IDENTITY_TOKEN_FILE=file)
    return file


def use(store: Store) -> None:
    """Every kind of call."""
    store.write("jobs/a", b"1")
    assert store.read("jobs/a") == b"1"
    assert store.exists("jobs/a") and not store.exists("jobs/b")
    assert store.create("claim", b"1") and not store.create("claim", b"2")
    store.copy("jobs/a", "jobs/c")
    assert store.list("jobs") == ["jobs/a", "jobs/c"]
    store.delete("jobs")
    store.delete("claim")
    assert store.list("") == []


def calls(store: Store, folder: Path) -> list[Callable[[], object]]:
    return [
        lambda: store.read("a"),
        lambda: store.exists("a"),
        lambda: store.write("a", b"1"),
        lambda: store.create("a", b"1"),
        lambda: store.copy("a", "b"),
        lambda: store.list("a"),
        lambda: store.size("a"),
        lambda: store.delete("a"),
        lambda: store.download("a", folder / "a"),
    ]


def all_say(words: str, folder: Path) -> None:
    """No call takes missing rights for a missing object."""
    for call in calls(Store(f"s3://{BUCKET}/mpa"), folder):
        with pytest.raises(Unavailable, match=words):
            call()


def test_a_key_in_variables(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, ACCESS_KEY_ID=account.key, SECRET_ACCESS_KEY=account.secret)
    use(Store(f"s3://{BUCKET}/key"))


def test_a_profile_of_a_shared_file(account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    give_profiles(account, tmp_path, monkeypatch)
    give(monkeypatch, PROFILE="mpa")
    use(Store(f"s3://{BUCKET}/profile"))


def test_a_web_identity(account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    give_token(account, tmp_path, monkeypatch, account.role)
    use(Store(f"s3://{BUCKET}/web"))


def test_nothing_given_is_said(tmp_path: Path) -> None:
    all_say("There are no credentials .*set AWS_ACCESS_KEY_ID", tmp_path)


def test_half_a_key_is_said(account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, ACCESS_KEY_ID=account.key)
    all_say("There are no credentials .*missing: AWS_SECRET_ACCESS_KEY", tmp_path)


def test_a_wrong_key_is_said(account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, ACCESS_KEY_ID=account.key, SECRET_ACCESS_KEY="wrong")
    all_say("refuses access .*check the credentials", tmp_path)


def test_the_profile_that_is_not_named_is_not_taken(
    account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_profiles(account, tmp_path, monkeypatch)
    all_say("refuses access .*check the credentials", tmp_path)


def test_a_profile_that_does_not_exist_is_said(
    account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_profiles(account, tmp_path, monkeypatch)
    give(monkeypatch, PROFILE="other")
    all_say(r"There are no credentials .*\(other\)", tmp_path)


def test_a_role_without_rights_is_said(account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    give_token(account, tmp_path, monkeypatch, account.poor_role)
    all_say("refuses access .*check the credentials", tmp_path)


def test_a_token_file_that_is_missing_is_no_missing_object(
    account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """botocore reads it when it first signs, within the call for the object."""
    give_token(account, tmp_path, monkeypatch, account.role).unlink()
    all_say("a file of this machine is missing .*AWS_WEB_IDENTITY_TOKEN_FILE", tmp_path)
