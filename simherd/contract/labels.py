"""The labels of containers, which say to whom a container belongs.

A machine that is a container has those of the machine; the container of a simulation has those of
the attempt and of its machine. Code that changes a container checks them first.
"""

from __future__ import annotations

#: On a machine: the scheduler that launched it, its id, its name, its group's id.
DEPLOYMENT = "simherd.deployment"
MACHINE = "simherd.machine"
MACHINE_NAME = "simherd.machine-name"
GROUP = "simherd.group"
#: On a simulation's container: the id of its machine, its task, the attempt's number.
HOLDER = "simherd.executor"
TASK = "simherd.task"
ATTEMPT = "simherd.attempt"
#: On a service of deploy/docker-compose.yml that drills may break: its kind, and the kinds.
SERVICE = "simherd.service"
REDIS, STORAGE = "redis", "s3"
#: On a temporary container of a drill.
DRILL = "simherd.drill"
#: On every container of our image: its title, and the start of its value.
IMAGE_TITLE = "org.opencontainers.image.title"
OUR_TITLE = "Simherd"
#: On containers of Docker Compose: its project, and their service.
COMPOSE_PROJECT = "com.docker.compose.project"
COMPOSE_SERVICE = "com.docker.compose.service"
