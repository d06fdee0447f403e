"""The labels of containers: whose a container is, and what it does.

Machines that are containers have those of the machine; the containers of simulations those of the
attempt, and the machine that holds it. Whoever touches a container looks at them first.
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
#: On a service of deploy/docker-compose.yml that drills may break: what it is, and of which kinds.
SERVICE = "simherd.service"
REDIS, STORAGE = "redis", "s3"
#: On a container that a drill put beside another one for a moment.
DRILL = "simherd.drill"
#: On everything that is made of our image: its title, and what that begins with.
IMAGE_TITLE = "org.opencontainers.image.title"
OUR_TITLE = "Simherd"
#: What Docker Compose says of the containers it makes: its project, and their service.
COMPOSE_PROJECT = "com.docker.compose.project"
COMPOSE_SERVICE = "com.docker.compose.service"
