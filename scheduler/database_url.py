"""The URL of the task store's database, before anything connects to it."""

from __future__ import annotations

from urllib.parse import urlsplit


def check_database_url(url: str) -> None:
    """Raises ValueError: no database that Simherd works with; nothing of the URL but its scheme."""
    scheme, found, rest = url.partition("://")
    if found and scheme in {"sqlite", "sqlite+pysqlite"}:
        if rest and not rest.startswith("/"):
            raise ValueError("a URL of SQLite has three slashes before the file: sqlite:///FILE")
        return
    example = "postgresql+psycopg://USER:PASSWORD@HOST/DATABASE"
    if found and scheme == "postgresql+psycopg":
        try:
            is_complete = urlsplit(url).port is None or bool(urlsplit(url).hostname)
        except ValueError:
            is_complete = False
        if not is_complete:
            raise ValueError(f"its host or port cannot be read. Write {example}")
        return
    if found and scheme.startswith("postgres"):
        raise ValueError(f"it begins with {scheme}://. Write postgresql+psycopg:// instead")
    begins = f"it begins with {scheme}://" if found else "it is not a URL"
    raise ValueError(f"{begins}. Write {example} or sqlite:///FILE")
