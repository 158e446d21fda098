"""Objects in a real store, and what the store refuses."""

from __future__ import annotations

import http.client
import io
from urllib.parse import urlsplit

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError
from minio import Minio
from minio.error import S3Error
from openpyxl import load_workbook
from pydantic import SecretStr

from mbats.errors import ConfigError, PlatformError
from mbats.objectstore import ObjectStore
from mbats.platform.buckets import prepare_store, read_buckets


@pytest.fixture
def store(store_settings) -> ObjectStore:
    return ObjectStore(store_settings)


def admin(settings) -> Minio:
    keys = (settings.s3_admin_access_key, settings.s3_admin_secret_key)
    access, secret = (key.get_secret_value() for key in keys)
    return Minio(urlsplit(settings.s3_url).netloc, access_key=access, secret_key=secret, region="us-east-1", secure=False)


def test_what_was_put_is_got_back_and_a_second_put_replaces_it(store):
    store.put("artifacts", "a/b c/ü.html", b"first", content_type="text/html")
    store.put("artifacts", "a/b c/ü.html", b"second", content_type="text/html")

    assert store.get("artifacts", "a/b c/ü.html") == b"second"


def test_an_empty_object_and_a_large_one_come_back_whole(store):
    large = bytes(range(256)) * 40_000

    for key, content in (("empty", b""), ("large", large)):
        store.put("artifacts", key, content)

    assert store.get("artifacts", "empty") == b""
    assert store.get("artifacts", "large") == large


def test_the_content_type_is_kept_so_that_a_browser_shows_a_report(store, store_settings):
    store.put("artifacts", "page.html", b"<p>", content_type="text/html")

    assert admin(store_settings).stat_object("artifacts", "page.html").content_type == "text/html"


def test_a_list_has_every_key_of_the_prefix_in_order(store):
    for number in range(25):
        store.put("artifacts", f"many/{number:02}", b"x")
    store.put("artifacts", "manyother", b"x")

    assert store.list("artifacts", "many/") == [f"many/{number:02}" for number in range(25)]
    assert store.list("artifacts", "nothing/") == []


def test_an_object_exists_only_under_its_whole_key(store):
    store.put("artifacts", "whole/key", b"x")

    assert store.exists("artifacts", "whole/key")
    assert not store.exists("artifacts", "whole/ke")
    assert not store.exists("artifacts", "whole")


def test_a_missing_object_is_named_with_its_bucket_and_address(store, store_settings):
    with pytest.raises(
        ConfigError, match=f"No object 'none' in the bucket 'artifacts' in the S3 store at {store_settings.s3_url}"
    ):
        store.get("artifacts", "none")


def test_a_bucket_of_others_is_refused_in_words(store):
    with pytest.raises(ConfigError, match="refused the keys or the request for 'x' in the bucket 'elsewhere'"):
        store.put("elsewhere", "x", b"x")


def test_a_wrong_key_is_refused_in_words_that_name_the_settings(store_settings):
    wrong = store_settings.model_copy(update={"s3_secret_key": SecretStr("wrong")})

    with pytest.raises(ConfigError, match="MBATS_S3_SECRET_KEY"):
        ObjectStore(wrong).list("artifacts")


def test_a_store_that_does_not_answer_is_a_platform_error_with_its_address(store_settings):
    nowhere = store_settings.model_copy(update={"s3_endpoint": "http://127.0.0.1:1"})

    with pytest.raises(PlatformError, match=r"No S3 store at http://127\.0\.0\.1:1"):
        ObjectStore(nowhere).list("artifacts")


def test_a_missing_key_of_the_settings_is_named(store_settings):
    with pytest.raises(ConfigError, match="No secret 's3_access_key'"):
        ObjectStore(store_settings.model_copy(update={"s3_access_key": None}))


def test_a_proxy_of_the_environment_is_not_asked_for_a_store_on_this_machine(store_settings, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    assert ObjectStore(store_settings).exists("marketdata", "interested_tickers.xlsx")


# --- What the store was prepared to be ----------------------------------------------------------------------------


def test_preparing_again_changes_nothing_and_says_so(store_settings):
    said: list[str] = []

    prepare_store(store_settings, said.append)

    assert said == [
        "Bucket marketdata exists, skipped.",
        "File marketdata/interested_tickers.xlsx exists, skipped.",
        "Bucket artifacts exists, skipped.",
        "Bucket mlflow exists, skipped.",
        "Bucket backups exists, skipped.",
    ]


def test_a_workbook_that_the_user_edited_is_left_alone(store, store_settings):
    sample = store.get("marketdata", "interested_tickers.xlsx")
    store.put("marketdata", "interested_tickers.xlsx", b"edited")
    try:
        prepare_store(store_settings, print)

        assert store.get("marketdata", "interested_tickers.xlsx") == b"edited"
    finally:
        store.put("marketdata", "interested_tickers.xlsx", sample)


def test_the_sample_workbook_has_a_daily_and_a_minute_tab(store):
    workbook = load_workbook(io.BytesIO(store.get("marketdata", "interested_tickers.xlsx")))

    assert {"daily", "minute"} <= set(workbook.sheetnames)


def test_an_edit_of_the_workbook_can_be_taken_back(store, store_settings):
    sample = store.get("marketdata", "interested_tickers.xlsx")
    store.put("marketdata", "interested_tickers.xlsx", b"a mistake")
    try:
        versions = admin(store_settings).list_objects("marketdata", prefix="interested_tickers.xlsx", include_version=True)
        older = [version.version_id for version in versions if version.is_latest == "false"]

        contents = [
            admin(store_settings).get_object("marketdata", "interested_tickers.xlsx", version_id=version).read()
            for version in older
        ]
        assert sample in contents
    finally:
        store.put("marketdata", "interested_tickers.xlsx", sample)


def test_what_a_lifecycle_no_longer_says_is_brought_back(store_settings):
    client = admin(store_settings)
    before = client.get_bucket_lifecycle("marketdata")
    client.delete_bucket_lifecycle("marketdata")
    said: list[str] = []

    prepare_store(store_settings, said.append)

    assert said[0] == "Bucket marketdata: lifecycle set."
    assert client.get_bucket_lifecycle("marketdata").rules == before.rules
    days = {rule.rule_id: rule.noncurrent_version_expiration for rule in before.rules}
    assert days["old-versions"].noncurrent_days == 365


def test_a_wrong_description_of_the_buckets_is_named(store_settings, tmp_path):
    file = tmp_path / "buckets.toml"
    file.write_text("[nobucket]\nversioning = true\n")

    with pytest.raises(ConfigError, match="cannot be used"):
        read_buckets(file, store_settings)


# --- What the store refuses ------------------------------------------------------------------------------------------


def test_nobody_reads_or_writes_without_a_key(store_settings):
    anonymous = boto3.client(
        "s3", endpoint_url=store_settings.s3_url, region_name="us-east-1", config=Config(signature_version=UNSIGNED, proxies={})
    )

    for request in (
        lambda: anonymous.get_object(Bucket="marketdata", Key="interested_tickers.xlsx"),
        lambda: anonymous.put_object(Bucket="artifacts", Key="x", Body=b"x"),
        lambda: anonymous.list_objects_v2(Bucket="artifacts"),
    ):
        with pytest.raises(ClientError, match="AccessDenied"):
            request()


def test_the_key_that_reads_and_writes_can_neither_make_nor_delete_a_bucket(store_settings):
    keys = (store_settings.s3_access_key, store_settings.s3_secret_key)
    access, secret = (key.get_secret_value() for key in keys)
    client = Minio(urlsplit(store_settings.s3_url).netloc, access_key=access, secret_key=secret, region="us-east-1", secure=False)

    for request in (lambda: client.make_bucket("another"), lambda: client.remove_bucket("artifacts")):
        with pytest.raises(S3Error) as refusal:
            request()
        assert refusal.value.code == "AccessDenied"


def test_a_bucket_with_objects_is_not_deleted_and_none_is_made_by_an_upload(store, store_settings):
    store.put("artifacts", "in the way", b"x")

    with pytest.raises(S3Error) as not_empty:
        admin(store_settings).remove_bucket("artifacts")
    with pytest.raises(S3Error) as no_bucket:
        admin(store_settings).put_object("another", "x", io.BytesIO(b"x"), 1)

    assert (not_empty.value.code, no_bucket.value.code) == ("BucketNotEmpty", "NoSuchBucket")


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_the_inner_ports_give_and_delete_nothing_without_a_token(store, store_settings, method):
    store.put("artifacts", "inner", b"secret")

    connection = http.client.HTTPConnection("127.0.0.1", store_settings.s3_filer_port, timeout=5)
    try:
        connection.request(method, "/buckets/artifacts/inner")
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()

    assert answer.status == 401
    assert b"secret" not in body
    assert store.get("artifacts", "inner") == b"secret"
