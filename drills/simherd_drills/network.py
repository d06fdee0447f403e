"""Scripts that break a container's network, and mend it. They run beside the container.

What they add has separate names, and only that is removed again: so mending is harmless where
nothing is broken, and needs no memory of what was done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from simherd_drills.errors import GOES_ON, REFUSED, DrillNotPossible

if TYPE_CHECKING:
    from simherd_drills.docker_engine import Container, Engine

_CHAIN = "simherd-drill"
#: The handle of our queueing discipline.
_HANDLE = "5d11:"

#: Programs for each kind of address that the network has.
_EACH = "for ip in iptables $([ ! -s /proc/net/if_inet6 ] || echo ip6tables); do"
#: $1: what becomes of a packet; the chains that it is for follow. The machine itself can still
#: reach itself: else its own health checks would fail, too. Refuses before anything is done.
_BREAK = f"""
verdict=$1; shift
{_EACH}
  ! $ip -n -L {_CHAIN} >/dev/null 2>&1 ||
    {{ echo "{GOES_ON}"; exit {REFUSED}; }}
done
{_EACH}
  $ip -N {_CHAIN}
  $ip -A {_CHAIN} $verdict
  for way in "$@"; do
    case $way in INPUT) not_lo="! -i lo" ;; *) not_lo="! -o lo" ;; esac
    $ip -I "$way" $not_lo -j {_CHAIN}
  done
done
"""
_MEND = f"""
{_EACH}
  $ip -n -L {_CHAIN} >/dev/null 2>&1 || continue
  while $ip -D INPUT ! -i lo -j {_CHAIN} 2>/dev/null; do :; done
  while $ip -D OUTPUT ! -o lo -j {_CHAIN} 2>/dev/null; do :; done
  $ip -F {_CHAIN}
  $ip -X {_CHAIN}
  echo mended
done
"""
#: The interfaces' other ends on the host, as numbers.
_ENDS = 'for at in /sys/class/net/*; do [ "${at##*/}" = lo ] || cat "$at/iflink"; done'
#: Says which interfaces the numbers are that follow $1, the rate; without numbers: all there are.
_INTERFACES = """
rate=$1; shift
for at in /sys/class/net/*; do
  name=${at##*/}
  [ "$name" != lo ] || continue
  case " ${*:-$(cat "$at/ifindex")} " in *" $(cat "$at/ifindex") "*) ;; *) continue ;; esac
"""
_SLOW = f"""{_INTERFACES}
  tc qdisc replace dev "$name" root handle {_HANDLE} tbf rate "$rate" burst 16kb latency 1s
done
"""
_IS_SLOW = f"""
for at in /sys/class/net/*; do
  case $(tc qdisc show dev "${{at##*/}}" root) in *" {_HANDLE} "*) echo slow ;; esac
done
"""
_HURRY = f"""{_INTERFACES}
  case $(tc qdisc show dev "$name" root) in *" {_HANDLE} "*) ;; *) continue ;; esac
  tc qdisc del dev "$name" root
done
"""


class Network:
    """The network of one container, which no other shares."""

    def __init__(self, engine: Engine, container: Container, image: str) -> None:
        """`image`: the id of the image that holds `iptables` and `tc`."""
        self._engine = engine
        self._container = container
        self._image = image

    def drop(self, *, one_way: bool = False) -> None:
        """Let nothing in or out; `one_way`: nothing in, what it sends arrives.
        Raises DrillNotPossible where a drill has broken it already."""
        self._run(_BREAK, "-j DROP", "INPUT", *([] if one_way else ["OUTPUT"]))

    def refuse(self) -> None:
        """Refuse every connection, also those there are. Raises DrillNotPossible, see `drop`."""
        self._run(_BREAK, "-p tcp -j REJECT --reject-with tcp-reset", "INPUT")

    def slow(self, rate: str) -> None:
        """Let no more through than `rate`, such as `1mbit`, each way. Raises DrillNotPossible, see
        `drop`."""
        if "slow" in self._run(_IS_SLOW).split():
            raise DrillNotPossible(f"{self._container.name}: {GOES_ON}")
        self._run(_SLOW, rate)
        self._at_host(_SLOW, rate)

    def mend(self) -> bool:
        """Undo all of it and return whether there was something to undo."""
        found = self._run(f"{_MEND}{_IS_SLOW}").split()
        if "slow" in found:
            # Its own end last, as it came first: so that what is begun is found again.
            self._at_host(_HURRY, "-")
            self._run(_HURRY, "-")
        return "slow" in found or "mended" in found

    def _run(self, script: str, *arguments: str) -> str:
        return self._engine.beside(self._container, self._image, script, *arguments)

    def _at_host(self, script: str, rate: str) -> str:
        """Run it for the interfaces' other ends, where what is sent to the container passes."""
        ends = self._run(_ENDS).split()
        if not ends:
            # Without numbers the script would take every interface there is.
            return ""
        return self._engine.beside(self._container, self._image, script, rate, *ends, host=True)
