"""The rows of docs/conformance.md: what the contract asks for, name by name.

Typed from the class reference, the guides and the HTTP contract, not from our code: what we forget
is a row without a test.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Who calls: our client, our command line or a plain HTTP request; the published client.
OURS, PUBLISHED = "ours", "inductiva"

_OWN_DOCKER = "it runs a Docker image of its own, which is had from Docker Hub alone"
_OWN_AGENT = f"{_OWN_DOCKER}; machines join with `simherd resources invite`"
_BROKEN_EXPORT = "client bug: it asks for the length of a model (TypeError) before it sends any"
_NOT_IN_IT = "it has no such thing"


@dataclass(frozen=True)
class Row:
    """One thing to be shown; where somebody cannot have it, the reason."""

    name: str
    what: str = ""
    published: str = ""
    ours: str = ""

    def cannot(self, face: str) -> str:
        """Why `face` cannot show it, or nothing."""
        return self.ours if face == OURS else self.published


@dataclass(frozen=True)
class Table:
    """Rows of one kind."""

    title: str
    heading: str
    rows: tuple[Row, ...]


def _rows(text: str, prefix: str = "", **more: str) -> list[Row]:
    return [Row(prefix + name.strip(), **more) for name in text.split(",")]


_TASK = """
    close_stream, download_inputs, download_outputs, from_api_info, get_computation_time, get_info,
    get_input_url, get_machine_type, get_metadata, get_output_info, get_output_url,
    get_position_in_queue, get_simulator_name, get_status, get_storage_path, get_total_time, info,
    is_failed, is_running, is_terminal, kill, last_modified_file, list_files, print_summary,
    remove_remote_files, set_metadata, summary, sync_context, tail_files, wait, wait_for_status
"""

METHODS = Table(
    "Python",
    "method",
    (
        *_rows("get_output_dir, set_output_dir"),
        *_rows("get, get_all, get_tasks, to_dict", "tasks."),
        Row("tasks.Task"),
        *_rows(_TASK, "Task."),
        Row(
            "Task.get_output_files_info",
            published="client bug: the guides have it, the class does not (AttributeError)",
        ),
        *_rows("Project, get_projects", "projects."),
        *_rows("add_task, delete, download_outputs, get_tasks, wait", "Project."),
        *_rows("get_metadata, remove_task, set_metadata", "Project.", published=_NOT_IN_IT),
        Row("benchmarks.Benchmark"),
        *_rows("add_run, export, run, set_default, terminate, wait", "Benchmark."),
        *_rows("MachineGroup, ElasticMachineGroup, MPICluster", "resources."),
        *_rows("estimate_machine_cost, get, get_available_machine_types", "resources."),
        Row("resources.get_by_name"),
        *_rows("can_start_resource, estimate_cloud_cost, start, terminate", "MachineGroup."),
        *_rows("simulators.list_available_images, Simulator.run, utils.download_from_url"),
        *_rows("copy, download, listdir, remove, upload, upload_from_url", "storage."),
        Row("storage.export", published=_BROKEN_EXPORT),
        Row("storage.get_space_used"),
        *_rows("get_buckets, get_cost, get_size", "storage.", published=_NOT_IN_IT),
        *_rows("get, list_events, register, remove", "events."),
        *_rows("get_costs, get_fees, get_info, get_quotas", "users."),
    ),
)

_PROJECT_PARTS = """
    PATCH /projects/{name}, POST /projects/{name}/task/{task_id}/remove,
    GET /projects/{name}/metadata, PUT /projects/{name}/metadata, PATCH /projects/{name}/metadata
"""

ENDPOINTS = Table(
    "HTTP",
    "request",
    (
        Row("GET /version-check"),
        *_rows("info, quotas, costs, fees", "GET /users/"),
        *_rows("GET /tasks, POST /tasks/submit, GET /tasks/{task_id}"),
        *_rows("POST /tasks/{task_id}/input_uploaded, GET /tasks/{task_id}/status"),
        *_rows("POST /tasks/{task_id}/kill"),
        *_rows("PUT /tasks/{task_id}/metadata, GET /tasks/{task_id}/metadata"),
        *_rows("POST /tasks/{task_id}/register, POST /tasks/{task_id}/offer"),
        *_rows("GET /tasks/{task_id}/message"),
        *_rows("POST /compute/group, POST /compute/group/start, DELETE /compute/group"),
        *_rows("GET /compute/groups, GET /compute/group/{name}, GET /compute/price"),
        *_rows("GET /compute/groups/history, GET /compute/machine_types"),
        *_rows("signed-urls, contents, zip-contents, zip-file-range", "GET /storage/"),
        *_rows("size, cost, list_buckets, default_bucket", "GET /storage/"),
        *_rows("DELETE /storage/, POST /storage/copy, POST /storage/input_remote"),
        Row("POST /storage/export_multipart"),
        *_rows("GET /projects, POST /projects, GET /projects/{name}, DELETE /projects"),
        *_rows("POST /projects/{name}/task/{task_id}/add, GET /projects/{name}/tasks_info"),
        *_rows(_PROJECT_PARTS),
        *_rows("POST /events/, GET /events/"),
        *_rows("GET /events/{event_id}, DELETE /events/{event_id}"),
        *_rows("GET /simulators/available-images, GET /pricing/machine-types"),
        *_rows("PUT a signed URL, GET a signed URL, HEAD a signed URL"),
        Row("GET a range of a signed URL"),
    ),
)

COMMANDS = Table(
    "Command line",
    "command",
    (
        *_rows("login, logout", "auth "),
        *_rows("list, remove", "containers "),
        *_rows("convert, upload", "containers ", published=_OWN_DOCKER),
        Row("logs"),
        *_rows("list, download", "projects "),
        Row("projects delete", published=_NOT_IN_IT),
        Row("quotas list"),
        *_rows("available, list, info, start, terminate, cost", "resources "),
        Row("simulators list"),
        *_rows("list, upload, download, remove, size, bucket list", "storage "),
        Row("storage export", published=_BROKEN_EXPORT),
        *_rows("copy, fetch, transfers", "storage ", published=_NOT_IN_IT),
        *_rows("launch, remove", "task-runner ", published=_OWN_AGENT),
        *_rows("list, info, download, kill", "tasks "),
        *_rows("list-files, tail, top, last-modified-file", "tasks "),
        Row("user info"),
        *_rows("list, register, info, remove", "events ", published=_NOT_IN_IT),
        Row("completion", published=_NOT_IN_IT),
    ),
)

GOTCHAS = Table(
    "What to look out for",
    "rule",
    (
        Row("7.1", "submit answers 202, a new group 201, a new project 200, a signed PUT 200"),
        Row("7.2", "`metrics` is an object, in lists too"),
        Row("7.3", "no field of a row of a list is missing or null where it must not be"),
        Row("7.4", "the history is never empty; its entries and operations have an end"),
        Row("7.5", "timestamps have an offset, `+00:00`, and 0, 3 or 6 digits of a second"),
        Row("7.6", "no value outside the contract's lists"),
        Row("7.7", "whole numbers are whole"),
        Row("7.8", "task ids are 25 lower-case letters and digits; others are UUIDs"),
        Row("7.9", "an unknown task is a 404"),
        Row("7.10", "every 4xx is JSON with `detail`"),
        Row("7.11", "404, 406 and 204 where clients go by them"),
        Row("7.12", "a group has a zone, costs and quota names that exist; spot costs something"),
        Row("7.13", "uploads in chunks; slashes too many are no matter"),
        Row(
            "7.14", "signed URLs: absolute, with the path in them, for HEAD and ranges, many times"
        ),
        Row("7.15", "output.zip has the entry `artifacts/`, and both logs of a failed task"),
        Row("7.16", "however the folder inside a zip is spelt, names are relative"),
        Row("7.17", "the page after the last one is empty"),
        Row("7.18", "deleted are `TASK_ID/`, wherever they lie; a second time is a 404"),
        Row("7.19", "a new task waits for its input"),
        Row("7.20", "request lines of tens of kB"),
        Row("7.21", "trailing slashes as the contract has them, without a redirect"),
        Row("7.22", "names in paths keep their `%2F`"),
        Row("7.23", "events have exactly their keys"),
        Row(
            "7.24",
            "the published agent's own calls",
            published="that agent is another program",
            ours="not offered: our executor speaks Redis",
        ),
        Row("7.25", "what is sent again after a broken connection does no harm"),
        Row("7.26", "the client's own bugs are lived with, and are not in ours"),
    ),
)

GUIDES = Table(
    "Snippets of the guides",
    "snippet",
    (
        Row("managing: status and machine"),
        Row("managing: output info", published="`get_output_files_info`, see above"),
        *_rows("download all, the output folder, some files", "managing: "),
        *_rows("kill, sync_context", "monitoring: "),
        *_rows("the example of Task, the example of get, set_metadata", "class reference: "),
        *_rows("submit twice, two handles, wait, sync_context", "lifecycle: "),
        Row(
            "tasks guide: run",
            published="client bug: `run` without `on=` is a TypeError, whatever the guide says",
        ),
        *_rows("status and kill, wait", "tasks guide: "),
        Row("tasks guide: output info", published="`get_output_files_info`, see above"),
        *_rows("downloads, earlier tasks, tasks list, tasks kill", "tasks guide: "),
    ),
)

TABLES = (METHODS, ENDPOINTS, COMMANDS, GOTCHAS, GUIDES)
ROWS = {row.name: row for table in TABLES for row in table.rows}
