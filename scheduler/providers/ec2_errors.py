"""Translation of EC2's errors of a launch into exceptions with a sentence for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
)
from botocore.exceptions import ConnectionError as NoConnection

from scheduler.providers.base import LaunchRefused, NoCapacity, Uncertain

if TYPE_CHECKING:
    from botocore.exceptions import BotoCoreError

#: Codes of what may be there in a while: machines, quota, addresses, requests, the API itself.
_LATER = frozenset(
    {
        "InsufficientAddressCapacity",
        "InsufficientCapacity",
        "InsufficientFreeAddressesInSubnet",
        "InsufficientHostCapacity",
        "InsufficientInstanceCapacity",
        "InsufficientReservedInstanceCapacity",
        "InsufficientVolumeCapacity",
        "InstanceLimitExceeded",
        "InternalError",
        "InternalFailure",
        "MaxSpotInstanceCountExceeded",
        "RequestLimitExceeded",
        "ServiceUnavailable",
        "SpotMaxPriceTooLow",
        "Throttling",
        "ThrottlingException",
        "Unavailable",
        "VcpuLimitExceeded",
        "VolumeLimitExceeded",
    }
)
#: Start of a code → what to check, for what stays wrong until somebody mends it.
_CHECK = {
    "InvalidAMI": "SIMHERD_EC2_IMAGE_ID and SIMHERD_EC2_REGION",
    "InvalidSubnet": "SIMHERD_EC2_SUBNET_ID and SIMHERD_EC2_REGION",
    "InvalidGroup": "SIMHERD_EC2_SECURITY_GROUP_IDS: they are of the subnet's VPC",
    "InvalidSecurityGroup": "SIMHERD_EC2_SECURITY_GROUP_IDS: they are of the subnet's VPC",
    "InvalidIamInstanceProfile": "SIMHERD_EC2_INSTANCE_PROFILE",
    "NoSuchEntity": "SIMHERD_EC2_INSTANCE_PROFILE",
    "Unsupported": "the machine type: perhaps the subnet's zone does not have it",
    "InvalidInstanceType": "SIMHERD_EC2_MACHINE_TYPES",
    "InvalidBlockDeviceMapping": "the disk's size",
    "UnauthorizedOperation": "the scheduler's permissions: deploy/iam/scheduler-ec2.json",
    "AccessDenied": "the scheduler's permissions: deploy/iam/scheduler-ec2.json",
    "AuthFailure": "the scheduler's AWS credentials",
    "InvalidClientTokenId": "the scheduler's AWS credentials",
    "SignatureDoesNotMatch": "the scheduler's AWS credentials",
    "ExpiredToken": "the scheduler's AWS credentials",
    "RequestExpired": "the scheduler's AWS credentials and clock",
    "OptInRequired": "that the AWS account is signed up for EC2",
    "PendingVerification": "the AWS account's mail",
}


def launch_error(
    error: ClientError | BotoCoreError, machine: str, secrets: tuple[str, ...]
) -> Exception:
    """Return the `LaunchRefused`, `NoCapacity` or `Uncertain` for an error of a launch.

    `machine`: the machine in words, such as "a spot c7i.large in eu-west-1a"; `secrets`: strings
    that are masked where AWS quotes them.
    """
    if not isinstance(error, ClientError):
        # Its text can quote the request, and with it the ticket: only its class is named.
        kind = type(error).__name__
        if isinstance(error, (EndpointConnectionError, ConnectTimeoutError)):
            return NoCapacity(f"EC2 cannot be asked for {machine} now ({kind}); try again.")
        if isinstance(error, (NoConnection, HTTPClientError)):
            return Uncertain(f"EC2 was asked for {machine}, and its answer was lost ({kind}).")
        return LaunchRefused(
            f"EC2 cannot be asked for {machine} ({kind}): check the scheduler's AWS credentials, "
            f"SIMHERD_EC2_REGION and SIMHERD_EC2_ENDPOINT_URL."
        )
    code = code_of(error)
    said = f"{code}: {_said(error, secrets)}"
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code not in _LATER and status >= 500:
        return Uncertain(f"EC2 was asked for {machine}, and broke down. AWS says {said}")
    if code in _LATER:
        return NoCapacity(f"There is no capacity for {machine} just now. AWS says {said}")
    check = next((what for start, what in _CHECK.items() if code.startswith(start)), None)
    advice = f" Check {check}." if check else " Check the SIMHERD_EC2_ settings."
    return LaunchRefused(f"EC2 does not launch {machine}. AWS says {said}{advice}")


def code_of(error: Exception) -> str:
    """Return AWS's code of an error, or the name of its class: nothing of the request."""
    if isinstance(error, ClientError):
        return error.response.get("Error", {}).get("Code", "unknown")
    return type(error).__name__


def _said(error: ClientError, secrets: tuple[str, ...]) -> str:
    """Return AWS's message as sentences."""
    message = error.response.get("Error", {}).get("Message", "")
    # What follows is a kilobyte for `aws sts decode-authorization-message`.
    message = message.partition("Encoded authorization failure message")[0].strip()
    for secret in secrets:
        message = message.replace(secret, "***")
    return message if message.endswith(".") else f"{message}."
