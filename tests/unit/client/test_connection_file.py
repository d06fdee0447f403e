"""Which server the client talks to, and where downloads go."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from simherd import config
from simherd.config import KEY_VARIABLE, URL_VARIABLE, Connection
from simherd.errors import NotConnected


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv(URL_VARIABLE, raising=False)
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    return tmp_path


def keep(content: str) -> None:
    config.connection_file().parent.mkdir(parents=True, exist_ok=True)
    config.connection_file().write_text(content)


def test_what_was_written_is_read_and_only_its_owner_can() -> None:
    config.write_connection(Connection("http://host", "key=with="), config.connection_file())
    found = config.read_connection()
    assert (found.url, found.key) == ("http://host", "key=with=")
    assert found.key_source == str(config.connection_file())
    assert stat.S_IMODE(config.connection_file().stat().st_mode) == 0o600


def test_the_environment_goes_before_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    keep(f"{URL_VARIABLE}=http://kept\n{KEY_VARIABLE}=kept\n")
    monkeypatch.setenv(URL_VARIABLE, "http://given/")
    assert config.read_connection().url == "http://given"
    assert config.read_connection().key == "kept"
    monkeypatch.setenv(KEY_VARIABLE, " given ")
    assert config.read_connection() == Connection("http://given", "given", KEY_VARIABLE)


@pytest.mark.parametrize(
    "content", ["", f"{URL_VARIABLE}=http://host\n", f"{KEY_VARIABLE}=key\n", "no pairs\n", "=\n"]
)
def test_half_a_connection_is_none(content: str) -> None:
    keep(content)
    missing = KEY_VARIABLE if URL_VARIABLE in content else URL_VARIABLE
    with pytest.raises(NotConnected, match=rf"^{missing} is not set .*simherd auth login"):
        config.read_connection()


def test_spaces_and_strange_lines_do_not_matter() -> None:
    keep(f"# a comment\n {URL_VARIABLE} = http://host \n\n{KEY_VARIABLE}=k\nOTHER=1\n")
    assert config.read_connection().url == "http://host"


@pytest.mark.parametrize(
    ("folder", "name", "path"),
    [("out", "a", "out/a"), (None, "a", "a"), ("None", "a", "a"), ("out", "/abs/a", "/abs/a")],
)
def test_downloads_go_to_the_chosen_folder(
    monkeypatch: pytest.MonkeyPatch, folder: str | None, name: str, path: str
) -> None:
    monkeypatch.setattr(config, "_output_dir", config.get_output_dir())
    config.set_output_dir(folder)
    assert config.output_path(name) == Path(path)
