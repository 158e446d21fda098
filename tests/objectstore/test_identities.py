"""Who may use which bucket, on SeaweedFS for real and on MinIO by what its administration is asked."""

from __future__ import annotations

import json
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from pydantic import SecretStr

from mbats.platform.buckets import prepare_identities
from mbats.platform.s3_identities import s3_identities
from mbats.settings import Settings

BUCKETS = ("marketdata", "artifacts", "mlflow", "backups")
OWN = {"mbats": {"marketdata", "artifacts"}, "mlflow": {"mlflow"}, "backup": {"backups"}}


def client(settings: Settings, identity: Any) -> Any:
    access, secret = settings.s3_keys(identity)
    return boto3.client(
        "s3",
        endpoint_url=settings.s3_url,
        region_name="us-east-1",
        aws_access_key_id=access.get_secret_value(),
        aws_secret_access_key=secret.get_secret_value(),
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}, proxies={}),
    )


@pytest.mark.parametrize("identity", OWN)
@pytest.mark.parametrize("bucket", BUCKETS)
def test_an_identity_writes_and_reads_its_own_buckets_and_no_others(store_settings, identity, bucket):
    s3 = client(store_settings, identity)

    if bucket in OWN[identity]:
        s3.put_object(Bucket=bucket, Key="mine", Body=b"mine")
        assert s3.get_object(Bucket=bucket, Key="mine")["Body"].read() == b"mine"
        s3.delete_object(Bucket=bucket, Key="mine")
    else:
        for attempt in (lambda: s3.put_object(Bucket=bucket, Key="mine", Body=b""), lambda: s3.list_objects_v2(Bucket=bucket)):
            with pytest.raises(ClientError, match="AccessDenied"):
                attempt()


@pytest.mark.parametrize("identity", OWN)
def test_no_identity_deletes_a_bucket(store_settings, identity):
    for bucket in OWN[identity]:
        with pytest.raises(ClientError, match="AccessDenied"):
            client(store_settings, identity).delete_bucket(Bucket=bucket)


def test_a_store_elsewhere_may_have_one_identity_for_all(store_settings):
    one = store_settings.model_copy(
        update={"s3_endpoint": store_settings.s3_url, "s3_mlflow_access_key": None, "s3_mlflow_secret_key": None}
    )

    assert one.s3_keys("mlflow") == one.s3_keys("mbats") == (one.s3_access_key, one.s3_secret_key)
    assert one.s3_keys("backup") == (one.s3_backup_access_key, one.s3_backup_secret_key)


class FakeMinioAdmin:
    """MinIO's administration as far as it is used: users with their keys and policies."""

    def __init__(self) -> None:
        self.users: dict[str, str] = {}
        self.policies: dict[str, Any] = {}
        self.granted: dict[str, str] = {}

    def user_list(self) -> str:
        return json.dumps({user: {"status": "enabled", "policyName": self.granted.get(user)} for user in self.users})

    def user_add(self, access_key: str, secret_key: str) -> str:
        self.users[access_key] = secret_key
        return ""

    def user_remove(self, access_key: str) -> str:
        del self.users[access_key]
        return ""

    def policy_add(self, policy_name: str, policy_file: None = None, policy: dict[str, Any] | None = None) -> str:
        self.policies[policy_name] = policy
        return ""

    def policy_set(self, policy_name: str, user: str | None = None) -> str:
        assert user in self.users and policy_name in self.policies
        self.granted[user] = policy_name
        return ""


def test_on_minio_each_identity_is_a_user_with_a_policy_for_its_own_buckets(store_settings):
    admin = FakeMinioAdmin()
    said: list[str] = []

    prepare_identities(admin, store_settings, said.append)
    prepare_identities(admin, store_settings, said.append)

    assert said == [
        "S3 store: made identities mbats, mlflow, backup.",
        "S3 store: identities exist, keys and rights set anew.",
    ]
    for identity in s3_identities(store_settings):
        access, secret = store_settings.s3_keys(identity.name)
        assert admin.users[access.get_secret_value()] == secret.get_secret_value()
        policy = admin.policies[admin.granted[access.get_secret_value()]]
        named = {
            resource.removeprefix("arn:aws:s3:::").split("/")[0] for part in policy["Statement"] for resource in part["Resource"]
        }
        assert named == OWN[identity.name]
        actions = {action for part in policy["Statement"] for action in part["Action"]}
        assert not [action for action in actions if "*" in action or action in ("s3:DeleteBucket", "s3:CreateBucket")]


def test_on_minio_an_access_key_that_was_replaced_opens_nothing_any_more(store_settings):
    admin = FakeMinioAdmin()
    said: list[str] = []
    prepare_identities(admin, store_settings, said.append)
    admin.user_add("somebody-else", "secret")
    replaced = store_settings.s3_mlflow_access_key.get_secret_value()

    prepare_identities(admin, store_settings.model_copy(update={"s3_mlflow_access_key": SecretStr("another")}), said.append)

    assert said[1:] == ["S3 store: made identities mlflow.", "S3 store: removed the former access keys of mlflow."]
    assert replaced not in admin.users and {"another", "somebody-else"} <= set(admin.users)
