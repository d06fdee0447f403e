"""Which addresses users' requests may go to. Numeric hosts are resolved without the network."""

from __future__ import annotations

import httpcore
import httpx
import pytest

from scheduler.net import ssrf_guard
from scheduler.net.ssrf_guard import NotAllowed, check_host, checked_url, networks


@pytest.mark.parametrize(
    "host",
    [
        "10.0.0.1",
        "100.64.0.1",
        "127.0.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "[::]",
        "[::1]",
        "[::10.0.0.1]",
        "[::ffff:10.0.0.1]",
        "[64:ff9b::a00:1]",
        "[2001::1]",
        "[2001:db8::1]",
        "[2002:a00:1::1]",
        "[2a00::5efe:a00:1]",
        "[3fff::1]",
        "[fc00::1]",
        "[fe80::1]",
        "[ff02::1]",
    ],
)
def test_an_address_that_is_not_public_is_refused(host: str) -> None:
    with pytest.raises(NotAllowed, match="not on the public internet"):
        check_host(f"http://{host}/")


@pytest.mark.parametrize("host", ["1.1.1.1", "93.184.216.34", "[2606:4700::1]", "[::ffff:1.1.1.1]"])
def test_a_public_address_is_allowed(host: str) -> None:
    check_host(f"http://{host}/")


def test_an_allowed_network_holds_for_its_addresses_alone() -> None:
    allowed = networks("10.1.0.0/16, fd00::/8")
    check_host("http://10.1.2.3/", allowed)
    check_host("http://[::ffff:10.1.2.3]/", allowed)
    check_host("http://[fd00::1]/", allowed)
    with pytest.raises(NotAllowed):
        check_host("http://10.2.0.1/", allowed)


@pytest.mark.parametrize("text", ["10.0.0.1/8", "x", "10.0.0.0/33"])
def test_a_wrong_network_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"network|bits"):
        networks(text)


@pytest.mark.parametrize(
    "url",
    ["ftp://host/", "host", "http://", "file:///etc/passwd", "http://a:b@host/", "http://a\x00b/"],
)
def test_only_plain_web_addresses_are_accepted(url: str) -> None:
    with pytest.raises(NotAllowed):
        checked_url(url)


@pytest.mark.parametrize(
    "raised",
    [
        httpcore.ConnectError,
        httpcore.ConnectTimeout,
        httpcore.ReadError,
        httpcore.ReadTimeout,
        httpcore.WriteError,
        httpcore.PoolTimeout,
        httpcore.RemoteProtocolError,
        httpcore.UnsupportedProtocol,
    ],
)
def test_a_clients_errors_are_those_of_httpx(
    raised: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> str:
        raise raised("sentence")

    monkeypatch.setattr(ssrf_guard, "_resolve", fail)
    with (
        ssrf_guard.open_client() as client,
        pytest.raises(getattr(httpx, raised.__name__), match="sentence"),
    ):
        client.get("http://host.example/")
