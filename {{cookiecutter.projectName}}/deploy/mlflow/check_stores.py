"""Checks that the tracking server's two stores accept its credentials; exits with 1 and one sentence otherwise.

It reads the server's variables: libpq's (PGHOST …) for the database; MLFLOW_ARTIFACTS_DESTINATION,
MLFLOW_S3_ENDPOINT_URL and AWS_… for the S3 store. A store without variables is not checked. No secret is printed.
"""

import os
import sys
import urllib.parse

import boto3
import psycopg2
from botocore import exceptions
from botocore.client import BaseClient, Config

# An object below the destination, which is written, and removed if the keys allow that.
PROBE = ".mlflow-store-check"
SECONDS = 10
REASONS = {
    "InvalidAccessKeyId": "does not know the access key: check AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "refuses the secret key: check AWS_SECRET_ACCESS_KEY",
    "NoSuchBucket": "has no bucket {bucket}: create it, or correct MLFLOW_ARTIFACTS_DESTINATION",
    "AccessDenied": "does not let this key list and write {bucket}: it needs s3:ListBucket, GetObject, PutObject",
}


class StoreError(Exception):
    """A store does not work; the text names the store, the cause and the fix."""


def check_database() -> None:
    """Connect to the database in libpq's variables. Raises StoreError."""
    where = f"{os.environ['PGHOST']}:{os.environ.get('PGPORT', '5432')}"
    try:
        psycopg2.connect("", connect_timeout=SECONDS).close()
    except psycopg2.Error as error:
        # libpq puts its hint on an indented line of its own.
        lines = [line for line in str(error).splitlines() if line.strip() and not line.startswith("\t")]
        reason = lines[-1] if lines else type(error).__name__
        verb = "refuses" if "FATAL:" in reason else "does not answer"
        raise StoreError(f"MLflow's database at {where} {verb}: {reason.rpartition('FATAL:')[2].strip()}") from error


def check_artifacts() -> None:
    """List, write and remove an object below MLFLOW_ARTIFACTS_DESTINATION. Raises StoreError."""
    destination = urllib.parse.urlsplit(os.environ["MLFLOW_ARTIFACTS_DESTINATION"])
    bucket, folder = destination.netloc, destination.path.strip("/")
    key = f"{folder}/{PROBE}".lstrip("/")
    store = _address()
    try:
        client = _client()
        client.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1)
        client.put_object(Bucket=bucket, Key=key, Body=b"")
    except exceptions.ClientError as error:
        raise StoreError(f"{store} {_refusal(error, bucket)}") from error
    except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError) as error:
        raise StoreError(f"{store} needs keys: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY") from error
    except exceptions.SSLError as error:
        reason = f"{store} has a certificate that is not trusted: name its authority in AWS_CA_BUNDLE"
        raise StoreError(reason) from error
    except (exceptions.BotoCoreError, ValueError) as error:
        reason = str(error).partition(":")[0]
        raise StoreError(f"{store} does not answer ({reason}): check MLFLOW_S3_ENDPOINT_URL") from error
    _remove(client, bucket, key)


def _address() -> str:
    endpoint = os.environ.get("MLFLOW_S3_ENDPOINT_URL")
    return f"the S3 store at {endpoint}" if endpoint else "the S3 store"


def _client() -> BaseClient:
    endpoint = os.environ.get("MLFLOW_S3_ENDPOINT_URL") or None
    config = Config(connect_timeout=SECONDS, read_timeout=SECONDS, retries={"total_max_attempts": 1})
    return boto3.client("s3", endpoint_url=endpoint, config=config)


def _refusal(error: exceptions.ClientError, bucket: str) -> str:
    details = error.response.get("Error", {})
    code = str(details.get("Code", ""))
    return REASONS[code].format(bucket=bucket) if code in REASONS else f"refuses: {code} {details.get('Message', '')}"


def _remove(client: BaseClient, bucket: str, key: str) -> None:
    """Remove the probe. Keys that may not remove objects are fine: the server itself removes none."""
    try:
        client.delete_object(Bucket=bucket, Key=key)
    except exceptions.ClientError as error:
        print(f"the probe {key} stays in {bucket}: {_refusal(error, bucket)}", file=sys.stderr)


def main() -> int:
    """Check the stores that have variables; return the exit status."""
    try:
        if os.environ.get("PGHOST"):
            check_database()
        if os.environ.get("MLFLOW_ARTIFACTS_DESTINATION"):
            check_artifacts()
    except StoreError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
