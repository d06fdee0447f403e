"""Signed S3 URLs from keys of the user's own, so that nobody else needs the keys (AWS Signature
Version 4, in the query; Amazon S3 API reference, "Authenticating Requests: Using Query
Parameters")."""

from __future__ import annotations

import configparser
import hashlib
import hmac
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, urlsplit

from simherd.errors import InvalidInput

_ALGORITHM = "AWS4-HMAC-SHA256"
#: Region of a bucket where nothing says otherwise.
_REGION = "us-east-1"


@dataclass(frozen=True)
class S3Account:
    """Keys, region and address of an S3. `endpoint` None: Amazon's own."""

    access_key: str
    secret_key: str
    session_token: str | None
    region: str
    endpoint: str | None

    def presigned(
        self,
        method: str,
        bucket: str,
        key: str,
        query: dict[str, str],
        valid_s: int,
        at: datetime | None = None,
    ) -> str:
        """A URL that allows `method` on one object for a while.

        Args:
            method: such as PUT.
            bucket: the bucket.
            key: the object's key.
            query: further parameters, which are signed too.
            valid_s: seconds.
            at: the moment from which it is valid; by default now.
        """
        address = self._address(bucket)
        path = f"{urlsplit(address).path}/{quote(key)}"
        moment = (at or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")
        scope = f"{moment[:8]}/{self.region}/s3/aws4_request"
        signed = {
            **query,
            "X-Amz-Algorithm": _ALGORITHM,
            "X-Amz-Credential": f"{self.access_key}/{scope}",
            "X-Amz-Date": moment,
            "X-Amz-Expires": str(valid_s),
            "X-Amz-SignedHeaders": "host",
        }
        if self.session_token:
            signed["X-Amz-Security-Token"] = self.session_token
        text = "&".join(f"{quote(k, '')}={quote(v, '')}" for k, v in sorted(signed.items()))
        host = urlsplit(address).netloc
        request = "\n".join((method, path, text, f"host:{host}\n", "host", "UNSIGNED-PAYLOAD"))
        digest = hashlib.sha256(request.encode()).hexdigest()
        signature = self._signature(scope, "\n".join((_ALGORITHM, moment, scope, digest)))
        scheme = urlsplit(address).scheme
        return f"{scheme}://{host}{path}?{text}&X-Amz-Signature={signature}"

    def _address(self, bucket: str) -> str:
        if self.endpoint is not None:
            return f"{self.endpoint.rstrip('/')}/{bucket}"
        return f"https://{bucket}.s3.{self.region}.amazonaws.com"

    def _signature(self, scope: str, text: str) -> str:
        key = f"AWS4{self.secret_key}".encode()
        for part in scope.split("/"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def s3_account(region: str | None = None) -> S3Account:
    """The user's S3, as the AWS tools find it: in the environment, else the file of credentials.
    Raises InvalidInput: there are no keys."""
    env = os.environ
    access, secret = env.get("AWS_ACCESS_KEY_ID"), env.get("AWS_SECRET_ACCESS_KEY")
    token = env.get("AWS_SESSION_TOKEN")
    if not access or not secret:
        kept = _kept()
        access, secret = kept.get("aws_access_key_id"), kept.get("aws_secret_access_key")
        token = kept.get("aws_session_token")
    if not access or not secret:
        raise InvalidInput(
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set, and the AWS credentials "
            "file has no keys. Set them: they stay on this machine."
        )
    region = region or env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION") or _REGION
    endpoint = env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL")
    return S3Account(access, secret, token, region, endpoint)


def _kept() -> dict[str, str]:
    """The keys of the chosen profile in the AWS tools' file."""
    given = os.environ.get("AWS_SHARED_CREDENTIALS_FILE")
    reader = configparser.ConfigParser(interpolation=None)
    reader.read(given or Path.home() / ".aws" / "credentials")
    profile = os.environ.get("AWS_PROFILE", "default")
    return dict(reader[profile]) if reader.has_section(profile) else {}
