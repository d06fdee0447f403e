"""The files that a task was given and has put out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simherd.contract.objects import INPUT_ROOT, OUTPUT_ROOT
from simherd.errors import NotFound
from simherd.output_info import FileInfo, TaskOutputInfo
from simherd.task_facts import TaskFacts
from simherd.visible import say

if TYPE_CHECKING:
    from pathlib import Path


class TaskFiles(TaskFacts):
    """A task's stored files."""

    def get_output_info(self) -> TaskOutputInfo:
        """Which files the task has put out, with their sizes."""
        found = self._api.get(
            "/storage/zip-contents",
            path=self._ended_info()["storage_output_path"],
            zip_relative_path=f"{OUTPUT_ROOT}/",
            recursive=True,
        )
        rows = [FileInfo(r["name"], r["size"], r["compressed_size"]) for r in found["contents"]]
        return TaskOutputInfo(found["size"], rows)

    #: The older spelling, which the guides use.
    get_output_files_info = get_output_info

    def get_input_url(self) -> str | None:
        """A URL to download the input archive with, or None when there is none."""
        return self._url(self.info["storage_input_path"])

    def get_output_url(self) -> str | None:
        """A URL to download the output archive with, or None when there is none."""
        return self._url(self._ended_info()["storage_output_path"])

    def _url(self, path: str) -> str | None:
        try:
            urls = self._api.get("/storage/signed-urls", operation="download", paths=[path])
        except NotFound:
            return None
        return str(urls[0])

    def download_outputs(
        self,
        filenames: list[str] | None = None,
        output_dir: str | None = None,
        uncompress: bool = True,
        rm_downloaded_zip_archive: bool = True,
        rm_remote_files: bool = False,
    ) -> Path | None:
        """Download what the task has put out.

        Args:
            filenames: only these files, by their names in `get_output_info()`.
            output_dir: a folder inside `get_output_dir()`; by default `TASK_ID/outputs`.
            uncompress: unpack the archive.
            rm_downloaded_zip_archive: remove the archive once it is unpacked.
            rm_remote_files: then delete the task's files from storage (whole downloads only).

        Returns:
            The folder, or None when there are no outputs.

        Raises:
            SimherdError: a file of `filenames` does not exist, or a transfer failed.
        """
        return self._download(
            self._url(self._ended_info()["storage_output_path"]),
            OUTPUT_ROOT,
            output_dir or f"{self.id}/outputs",
            filenames,
            (uncompress, rm_downloaded_zip_archive, rm_remote_files),
        )

    def download_inputs(
        self,
        filenames: list[str] | None = None,
        input_dir: str | None = None,
        uncompress: bool = True,
        rm_downloaded_zip_archive: bool = True,
        rm_remote_files: bool = False,
    ) -> Path | None:
        """Download what the task was given; the arguments are those of `download_outputs`."""
        return self._download(
            self.get_input_url(),
            INPUT_ROOT,
            input_dir or f"{self.id}/inputs",
            filenames,
            (uncompress, rm_downloaded_zip_archive, rm_remote_files),
        )

    def _download(
        self,
        url: str | None,
        root: str,
        folder: str,
        filenames: list[str] | None,
        options: tuple[bool, bool, bool],
    ) -> Path | None:
        from simherd.transfers.download import download_archive, download_members

        uncompress, remove_archive, remove_remote = options
        if url is None:
            return None
        if filenames:
            return download_members(url, root, filenames, folder)
        target = download_archive(url, root, folder, uncompress, remove_archive)
        if remove_remote:
            self.remove_remote_files(verbose=False)
        return target

    def remove_remote_files(self, verbose: bool = True) -> bool:
        """Delete all of the task's files from storage; False when there were none."""
        try:
            self._api.delete("/storage/", path=f"{self.id}/")
        except NotFound:
            if verbose:
                say(f"Task {self.id} has no files in storage.")
            return False
        if verbose:
            say(f"The files of task {self.id} were deleted from storage.")
        return True
