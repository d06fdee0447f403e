"""Signed URLs are the ones that Amazon's own library makes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest
from botocore.config import Config

from simherd.errors import InvalidInput
from simherd.transfers.s3_presign import S3Account, s3_account

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("endpoint", [None, "http://127.0.0.1:9000"])
@pytest.mark.parametrize("token", [None, "to/ken+="])
def test_a_part_url_is_signed_as_boto3_does(endpoint: str | None, token: str | None) -> None:
    client = boto3.client(
        "s3",
        region_name="eu-west-3",
        endpoint_url=endpoint,
        aws_access_key_id="AKID",
        aws_secret_access_key="secret",
        aws_session_token=token,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path" if endpoint else "virtual"},
            request_checksum_calculation="when_required",
        ),
    )
    params = {"Bucket": "bucket", "Key": "a b/ü.bin", "UploadId": "up+load=", "PartNumber": 7}
    theirs = client.generate_presigned_url("upload_part", Params=params, ExpiresIn=60)
    (date,) = parse_qs(urlsplit(theirs).query)["X-Amz-Date"]
    ours = S3Account("AKID", "secret", token, "eu-west-3", endpoint).presigned(
        "PUT",
        "bucket",
        "a b/ü.bin",
        {"uploadId": "up+load=", "partNumber": "7"},
        60,
        datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC),
    )
    assert urlsplit(ours)[:3] == urlsplit(theirs)[:3]
    assert parse_qs(urlsplit(ours).query) == parse_qs(urlsplit(theirs).query)


def test_keys_are_found_where_the_aws_tools_keep_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "credentials"
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    with pytest.raises(InvalidInput, match="AWS_ACCESS_KEY_ID"):
        s3_account()
    file.write_text(
        "[default]\naws_access_key_id = a\naws_secret_access_key = b%c\n"
        "[work]\naws_access_key_id = d\naws_secret_access_key = e\n"
    )
    assert (s3_account().access_key, s3_account().secret_key) == ("a", "b%c")
    monkeypatch.setenv("AWS_PROFILE", "work")
    assert s3_account("eu-west-1").access_key == "d"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "f")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "g")
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    assert (s3_account().access_key, s3_account().region) == ("f", "eu-north-1")
