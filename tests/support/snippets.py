"""The snippets of the published guides, as texts, with what must hold once they have run.

They are as the guides have them, less prompts, shown outputs and slips of the pen (a comma that is
missing, `tak` for `task`, one folder for two downloads). What a snippet takes from outside is put
in by `text_for`: the task that it is about, the arguments that it leaves out, and the host of its
example inputs. That it runs with no simulator image there is no matter: it does not wait for one.
"""

from __future__ import annotations

from dataclasses import dataclass

#: The task id and the host that the guides name, and what they leave out.
GUIDE_ID = "i4ir3kvv62odsfrhko4y8w2an"
GUIDE_HOST = "https://storage.googleapis.com/inductiva-api-demo-files/"
LEFT_OUT = "simulator.run(...)"
RUN = 'simulator.run("case", commands=["touch file1.txt file2.dat"], on=machine_group)'


@dataclass(frozen=True)
class Snippet:
    """A snippet; `task`: the kind of task that it has at hand, see `make` in test_guides.py."""

    name: str
    task: str
    text: str
    then: str
    #: Rows of the conformance page that it shows besides its own.
    also: tuple[str, ...] = ()

    def text_for(self, task_id: str, host: str) -> str:
        """The snippet about this task, with example inputs from this host."""
        placed = self.text.replace(GUIDE_ID, task_id).replace(GUIDE_HOST, host)
        return placed.replace(LEFT_OUT, RUN)


_KILLED = """
assert task.wait(silent_mode=True, download_std_on_completion=False) == "killed"
"""
_SUCCESS = """
assert task.get_status() == "success"
"""
_OUTPUT_INFO = """
assert outputs_info.size > 0
assert {"out.txt", "stdout.txt", "stderr.txt"} <= {f.name for f in outputs_info.contents}
assert "Archive size:" in str(outputs_info)
"""

SNIPPETS = (
    Snippet(
        "managing: status and machine",
        "ended",
        """
print(task.get_status())
print(task.get_machine_type())
print(task.get_computation_time())
""",
        """
assert task.get_status() == "success"
assert task.get_machine_type().endswith("local")
assert task.get_computation_time() > 0
""",
    ),
    Snippet(
        "managing: output info",
        "ended",
        """
output_files_info = task.get_output_files_info()
print(output_files_info)
""",
        "outputs_info = output_files_info" + _OUTPUT_INFO,
    ),
    Snippet(
        "managing: download all",
        "ended",
        """
output_dir = task.download_outputs()
print(output_dir)
""",
        'assert {"out.txt", "stdout.txt", "stderr.txt"} <= {p.name for p in output_dir.iterdir()}',
    ),
    Snippet(
        "managing: the output folder",
        "ended",
        """
import inductiva
# set the parent directory name
print(inductiva.get_output_dir())
inductiva.set_output_dir("my_vault")
print(inductiva.get_output_dir())

# download the outputs again
output_dir = task.download_outputs()
first = output_dir

# Unset the parent directory name so that all downloads are done to the current
# working directory
inductiva.set_output_dir("None")
output_dir = task.download_outputs()
""",
        """
assert first.parts[:2] == ("my_vault", task.id)
assert output_dir.parts[-2:] == (task.id, "outputs")
assert (first / "out.txt").exists() and (output_dir / "out.txt").exists()
""",
    ),
    Snippet(
        "managing: some files",
        "ended",
        """
# reset the parent directory name to the default
inductiva.set_output_dir("inductiva_outputs")
output_dir = task.download_outputs(output_dir="my_outputs")
whole = {p.name for p in output_dir.iterdir()}

# Download only the files of interest
output_dir = task.download_outputs(filenames=["stdout.txt", "stderr.txt"],
                                   output_dir="only_these")
""",
        """
assert "out.txt" in whole
assert {p.name for p in output_dir.iterdir()} == {"stdout.txt", "stderr.txt"}
""",
    ),
    Snippet(
        "monitoring: kill",
        "busy",
        f"""
# grab a task object and
# declaratively emit a kill command
task = Task("{GUIDE_ID}")
task.kill()
""",
        _KILLED,
    ),
    Snippet(
        "monitoring: sync_context",
        "quick",
        """
with task.sync_context():
    task.wait()  # <-- The remote simulation WILL DIE if the local session is
                 #     interrupted while waiting for the wait() call to return
                 #     (Ex. the user presses Ctrl+C)
""",
        _SUCCESS,
    ),
    Snippet(
        "class reference: the example of Task",
        "",
        f"""
task = {LEFT_OUT}
task.wait()
info = task.get_info() # dictionary with info about the task
task.download_outputs(
    filenames=["file1.txt", "file2.dat"] # download only these files
)
""",
        """
import pathlib
assert info is task.info
assert {"file1.txt", "file2.dat"} <= {
    p.name for p in pathlib.Path(inductiva.get_output_dir() or ".", task.id).rglob("*")}
""",
    ),
    Snippet(
        "class reference: the example of get",
        "waiting",
        """
# get the last 5 tasks that haven't started yet and kill them
tasks = inductiva.tasks.get(5, status="submitted")
for task in tasks:
    task.kill()
""",
        'assert "killed" in [t.get_status() for t in tasks]',
    ),
    Snippet(
        "class reference: set_metadata",
        "ended",
        """
# Add experiment information to the task
task.set_metadata({
    "study": "study_1",
    "experiment": "experiment_1",
    "description": "This is a test experiment",
    "parameters": "param1=1,param2=2",
})
""",
        'assert task.get_metadata()["parameters"] == "param1=1,param2=2"',
    ),
    Snippet(
        "lifecycle: submit twice",
        "",
        f"""
# Running the SplishSplash simulator example
import inductiva

# Instantiate machine group
machine_group = inductiva.resources.MachineGroup("c2-standard-4")
machine_group.start()

# Download example input files
input_dir = inductiva.utils.download_from_url(
    "{GUIDE_HOST}"
    "splishsplash-input-example.zip", unzip=True)

# Instantiate the simulator
splishsplash_simulator = inductiva.simulators.SplishSplash()

# Run the SPlisHSPlasH simulation with the required .json config file
task = splishsplash_simulator.run(
    input_dir="splishsplash-input-example",
    sim_config_filename="config.json",
    on=machine_group)
print(task.id)

task2 = splishsplash_simulator.run(
    input_dir="splishsplash-input-example",
    sim_config_filename="config.json",
    on=machine_group)
print (task2.id)

machine_group.terminate()
""",
        """
assert task.id != task2.id
assert task.get_simulator_name() == "splishsplash"
""",
        ("Simulator.run", "utils.download_from_url"),
    ),
    Snippet(
        "lifecycle: two handles",
        "ended",
        f"""
import inductiva

task1 = inductiva.tasks.Task("{GUIDE_ID}")
task2 = inductiva.tasks.Task("{GUIDE_ID}")
print(id(task1))
print(id(task2))
print(task1.id)
print(task2.id)
""",
        "assert (task1 is not task2, task1.id) == (True, task2.id)",
    ),
    Snippet(
        "lifecycle: wait",
        "quick",
        """
# Block the call until the simulation completes
task.wait()  # <- The remote simulation WILL NOT DIE if the local session is
             #    interrupted while waiting for the wait() call to return
""",
        _SUCCESS,
    ),
    Snippet(
        "lifecycle: sync_context",
        "quick",
        """
# Block the call until the simulation completes
with task.sync_context():
    task.wait()  # <- The remote simulation WILL DIE if the local session is
                 #     interrupted while waiting for the wait() call to return
""",
        _SUCCESS,
    ),
    Snippet(
        "tasks guide: run",
        "",
        f"""
# Launch a Reef3D simulation as in previous examples.
import inductiva

input_dir = inductiva.utils.download_from_url(
    "{GUIDE_HOST}"
    "reef3d-input-example.zip", unzip=True
)
simulator = inductiva.simulators.REEF3D()
task = simulator.run(input_dir=input_dir)
""",
        """
assert task.get_simulator_name() == "reef3d"
assert task.get_info()["machine_group_name"] == "local"
task.kill(wait_timeout=None)
""",
    ),
    Snippet(
        "tasks guide: status and kill",
        "waiting",
        """
# Get status of the task.
status = task.get_status()
print(status) # would be, e.g., "submitted", "started", "success", "failed", "killed"

# Get the machine type where the task is running.
machine_type = task.get_machine_type()
print(machine_type) # e.g., "c2-standard-4", "c2d-standard-16"

# Kill a task that hasn't completed yet.
if status == "submitted" or status == "started":
    task.kill()
""",
        "assert machine_type is None" + _KILLED,
    ),
    Snippet(
        "tasks guide: wait",
        "quick",
        """
# Block the call until the simulation completes, but
# without interrupting the remote task if the local process
# is interrupted.
task.wait()

# Or turn the simulation into a blocking call. Users kill
# the remote process if the local process is killed.
with task.sync_context():
    task.wait()
""",
        _SUCCESS,
    ),
    Snippet(
        "tasks guide: output info",
        "ended",
        """
# If you don't know the files generated by your task, you can get an object
# representing information on the output files.
outputs_info = task.get_output_files_info()
full_download_size = outputs_info.size # Size of the full output archive.
files = outputs_info.contents # List of individual files available.

# Pretty print information on the output archive.
print(outputs_info)
""",
        _OUTPUT_INFO.strip(),
    ),
    Snippet(
        "tasks guide: downloads",
        "ended",
        """
# Download all the generated files.
output_dir = task.download_outputs()

# Download only those you are interested in:
output_dir = task.download_outputs(
    filenames=["stdout.txt", "stderr.txt"])

# Or all the generated files for archival, without extracting the
# downloaded zip.
output_dir = task.download_outputs(uncompress=False)
""",
        'assert {"out.txt", "output.zip"} <= {p.name for p in output_dir.iterdir()}',
    ),
    Snippet(
        "tasks guide: earlier tasks",
        "waiting",
        """
import inductiva

# Get my last 10 submitted tasks.
tasks = inductiva.tasks.get(last_n=10)

# Get my last 10 tasks that ran successfuly.
tasks = inductiva.tasks.get(last_n=10, status="success")

# You can use the task objects to manipulate the tasks.
not_started_tasks = inductiva.tasks.get(last_n=5, status="submitted")
for task in not_started_tasks:
    task.kill()

successful_tasks = inductiva.tasks.get(last_n=20, status="success")
for task in successful_tasks:
    task.download_outputs()
""",
        """
assert len(tasks) > 0
assert "killed" in [t.get_status() for t in not_started_tasks]
assert {t.id for t in tasks} <= {t.id for t in successful_tasks}
""",
    ),
)
