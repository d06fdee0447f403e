"""Machines that are EC2 instances of the operator's own image."""

from __future__ import annotations

import base64
import hashlib
import logging
import time
from functools import cached_property
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from scheduler.providers.base import LaunchRefused, MachineState, NoCapacity, ProviderMachine
from scheduler.providers.ec2_errors import code_of, launch_error
from scheduler.providers.user_data import cloud_config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from scheduler.config import Ec2Settings
    from scheduler.providers.base import MachinePlan

log = logging.getLogger(__name__)

DEPLOYMENT_TAG, MACHINE_TAG, GROUP_TAG = "simherd:deployment", "simherd:machine", "simherd:group"

#: Seconds after a launch in which EC2 may still leave the instance out of its lists.
VISIBLE_AFTER_S = 60
#: Values that one filter takes.
_FILTER_VALUES = 200
_ON_ITS_WAY = ("pending", "running", "stopping")
#: What an instance costs in these is at least its volume.
_COSTS = (*_ON_ITS_WAY, "stopped")


class Ec2Provider:
    """Launches one instance a machine, marked by tags. Credentials come from boto3's usual places.

    The instance that has a machine's tag is the machine, whether the scheduler got to keep its
    handle or not.
    """

    revives = False
    by_hand = False

    def __init__(self, settings: Ec2Settings, now: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._now = now

    @cached_property
    def _client(self) -> Any:
        # Imported on demand, since importing boto3 takes most of a second.
        import boto3
        from botocore.config import Config

        # At DEBUG, botocore writes out whole requests, and with them the tickets.
        logging.getLogger("botocore").setLevel(logging.INFO)
        # A new session, since boto3's shared one is not thread-safe.
        return boto3.Session().client(
            "ec2",
            region_name=self._settings.region,
            endpoint_url=self._settings.endpoint_url,
            config=Config(
                connect_timeout=5,
                read_timeout=20,
                retries={"mode": "standard", "total_max_attempts": 3},
            ),
        )

    @property
    def _ours(self) -> dict[str, Any]:
        """The filter for this deployment's instances."""
        return _tag(DEPLOYMENT_TAG, self._settings.deployment)

    @cached_property
    def _root_device(self) -> tuple[str, int]:
        """Name of the image's root device, and the least size that it takes, GiB.
        Raises LaunchRefused: there is no such image."""
        image_id = self._settings.image_id
        images = self._client.describe_images(ImageIds=[image_id])["Images"]
        if not images:
            raise LaunchRefused(f"There is no image {image_id!r}: check SIMHERD_EC2_IMAGE_ID.")
        name = images[0]["RootDeviceName"]
        sizes = [
            mapping.get("Ebs", {}).get("VolumeSize", 0)
            for mapping in images[0].get("BlockDeviceMappings", [])
            if mapping.get("DeviceName") == name
        ]
        return name, max(sizes, default=0)

    def launch(self, plan: MachinePlan) -> dict[str, Any]:
        """See `MachineProvider`. A second call with the same ticket returns the same instance."""
        try:
            user_data = cloud_config(plan.ticket, plan.machine_id)
        except ValueError as error:
            raise LaunchRefused(
                f"{self._in_words(plan)} cannot be given its ticket: {error}"
            ) from error
        try:
            return self._find(plan.machine_id) or self._run(plan, user_data)
        except (BotoCoreError, ClientError) as error:
            secrets = (plan.ticket.token, base64.b64encode(user_data.encode()).decode())
            # The cause is left out of the trace: it can quote the request, and so the ticket.
            raise launch_error(error, self._in_words(plan), secrets) from None

    def terminate(self, machine_id: str, handle: dict[str, Any], *, force: bool) -> bool:
        """See `MachineProvider`. `force` changes nothing.

        Without a handle, an instance that EC2 does not list yet is missed; `list_machines` shows it
        later.
        """
        try:
            states = {
                instance["InstanceId"]: instance["State"]["Name"]
                for instance in self._instances(self._ours, _tag(MACHINE_TAG, machine_id))
            }
            if "instance_id" in handle:
                states.setdefault(handle["instance_id"], "unseen")
            return all([self._end(i, state, handle) for i, state in states.items()])
        except (BotoCoreError, ClientError) as error:
            log.warning("event=ec2_terminate_failed machine=%s why=%s", machine_id, code_of(error))
            return False

    def observe(self, machines: Mapping[str, dict[str, Any]]) -> dict[str, MachineState]:
        """See `MachineProvider`. While EC2 is unavailable every state is UNKNOWN."""
        ids = [handle["instance_id"] for handle in machines.values() if "instance_id" in handle]
        seen: dict[str, str] = {}
        try:
            for start in range(0, len(ids), _FILTER_VALUES):
                # A filter, because one unknown id in `InstanceIds` is an error for all.
                chunk = {"Name": "instance-id", "Values": ids[start : start + _FILTER_VALUES]}
                for instance in self._instances(chunk):
                    seen[instance["InstanceId"]] = instance["State"]["Name"]
        except (BotoCoreError, ClientError) as error:
            log.warning("event=ec2_observe_failed why=%s", code_of(error))
            return dict.fromkeys(machines, MachineState.UNKNOWN)
        return {machine_id: self._state(handle, seen) for machine_id, handle in machines.items()}

    def list_machines(self) -> Iterator[ProviderMachine]:
        """See `MachineProvider`. Empty while EC2 is unavailable."""
        try:
            for instance in self._instances(self._ours, _states(_COSTS)):
                tags = {tag["Key"]: tag["Value"] for tag in instance["Tags"]}
                if MACHINE_TAG in tags:
                    yield ProviderMachine(
                        tags[MACHINE_TAG], tags.get(GROUP_TAG, ""), _handle(instance)
                    )
        except (BotoCoreError, ClientError) as error:
            log.warning("event=ec2_found_failed why=%s", code_of(error))

    def _find(self, machine_id: str) -> dict[str, Any] | None:
        """Return the handle of a machine that runs or is about to."""
        instances = self._instances(self._ours, _tag(MACHINE_TAG, machine_id), _states(_ON_ITS_WAY))
        # The oldest: an earlier call has returned it.
        first = min(instances, key=lambda i: i["LaunchTime"], default=None)
        return _handle(first) if first is not None else None

    def _run(self, plan: MachinePlan, user_data: str) -> dict[str, Any]:
        """Launch an instance; its handle."""
        made = self._client.run_instances(**self._request(plan, user_data))["Instances"][0]
        instance_id, state = made["InstanceId"], made["State"]["Name"]
        if state not in _ON_ITS_WAY:
            # This ticket's instance has ended already; the next ticket gets another one.
            why = made.get("StateReason", {}).get("Message", "no reason is given")
            raise NoCapacity(
                f"{self._in_words(plan)} was launched as {instance_id} and is {state}: {why}"
            )
        log.info("event=ec2_launched machine=%s instance=%s", plan.machine_id, instance_id)
        return {"instance_id": instance_id, "launched_at": self._now()}

    def _instances(self, *filters: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The account's instances that match all of `filters`."""
        pages = self._client.get_paginator("describe_instances").paginate(
            Filters=list(filters), PaginationConfig={"PageSize": _FILTER_VALUES}
        )
        for page in pages:
            for reservation in page["Reservations"]:
                yield from reservation["Instances"]

    def _state(self, handle: dict[str, Any], seen: Mapping[str, str]) -> MachineState:
        instance_id = handle.get("instance_id")
        if instance_id is None:
            return MachineState.UNKNOWN
        if instance_id not in seen and self._is_new(handle):
            return MachineState.UNKNOWN
        return MachineState.RUNNING if seen.get(instance_id) in _ON_ITS_WAY else MachineState.GONE

    def _is_new(self, handle: dict[str, Any]) -> bool:
        return self._now() - float(handle.get("launched_at", 0)) < VISIBLE_AFTER_S

    def _end(self, instance_id: str, state: str, handle: dict[str, Any]) -> bool:
        """Terminate one instance; whether it is gone."""
        if state in ("shutting-down", "terminated"):
            return state == "terminated"
        try:
            self._client.terminate_instances(InstanceIds=[instance_id])
        except ClientError as error:
            if code_of(error) != "InvalidInstanceID.NotFound":
                raise
            return not self._is_new(handle)
        log.info("event=ec2_terminating instance=%s", instance_id)
        return False

    def _type(self, plan: MachinePlan) -> str:
        return self._settings.machine_types.get(plan.machine_type, plan.machine_type)

    def _in_words(self, plan: MachinePlan) -> str:
        kind = "a spot" if plan.spot else "an on-demand"
        return f"{kind} {self._type(plan)} in {plan.zone} ({self._settings.subnet_id})"

    def _request(self, plan: MachinePlan, user_data: str) -> dict[str, Any]:
        """The arguments of RunInstances."""
        settings, key = self._settings, f"{plan.machine_id}\n{plan.ticket.token}"
        device, least_gb = self._root_device
        volume = {
            "VolumeSize": max(plan.disk_size_gb, least_gb),
            "VolumeType": "gp3",
            "Encrypted": True,
            "DeleteOnTermination": True,
        }
        request: dict[str, Any] = {
            "MinCount": 1,
            "MaxCount": 1,
            # Makes the call idempotent by machine and ticket: the 64 characters that EC2 takes.
            "ClientToken": hashlib.sha256(key.encode()).hexdigest(),
            "ImageId": settings.image_id,
            "InstanceType": self._type(plan),
            "SubnetId": settings.subnet_id,
            "UserData": user_data,
            "BlockDeviceMappings": [{"DeviceName": device, "Ebs": volume}],
            # Credentials need a session token, which does not pass a container's extra hop.
            "MetadataOptions": {
                "HttpEndpoint": "enabled",
                "HttpTokens": "required",
                "HttpPutResponseHopLimit": 1,
                "HttpProtocolIpv6": "disabled",
            },
            "InstanceInitiatedShutdownBehavior": "terminate",
            "TagSpecifications": [
                {"ResourceType": kind, "Tags": self._tags(plan)} for kind in ("instance", "volume")
            ],
        }
        if settings.security_groups:
            request["SecurityGroupIds"] = settings.security_groups
        if settings.instance_profile:
            request["IamInstanceProfile"] = {"Name": settings.instance_profile}
        if plan.spot:
            options = {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"}
            request["InstanceMarketOptions"] = {"MarketType": "spot", "SpotOptions": options}
        return request

    def _tags(self, plan: MachinePlan) -> list[dict[str, str]]:
        tags = {
            DEPLOYMENT_TAG: self._settings.deployment,
            MACHINE_TAG: plan.machine_id,
            GROUP_TAG: plan.group_id,
            "Name": plan.name,
        }
        return [{"Key": key, "Value": value} for key, value in tags.items()]


def _handle(instance: dict[str, Any]) -> dict[str, Any]:
    return {
        "instance_id": instance["InstanceId"],
        "launched_at": instance["LaunchTime"].timestamp(),
    }


def _tag(key: str, value: str) -> dict[str, Any]:
    return {"Name": f"tag:{key}", "Values": [value]}


def _states(names: tuple[str, ...]) -> dict[str, Any]:
    return {"Name": "instance-state-name", "Values": list(names)}
