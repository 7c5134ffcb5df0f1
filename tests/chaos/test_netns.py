"""The network that the chaos runs cut."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from chaos import netns
from chaos.netns import Direction, Network

_ECHO = """
import socket, sys
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind((sys.argv[1], 0))
print(server.getsockname()[1], flush=True)
while True:
    data, peer = server.recvfrom(100)
    print(data.decode(), flush=True)
    server.sendto(data, peer)
"""


@pytest.fixture
def network() -> Iterator[Network]:
    if reason := netns.missing():
        pytest.skip(reason)
    with Network() as network:
        yield network


class Echo:
    """A process inside the network that sends back what it got, and says what it got."""

    def __init__(self, network: Network) -> None:
        command = [*network.prefix, sys.executable, "-c", _ECHO, network.worker_host]
        self._popen = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._popen.stdout is not None
        self._out = self._popen.stdout
        self._address = (network.worker_host, int(self._out.readline()))
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((network.broker_host, 0))

    def send(self, text: str) -> None:
        self._socket.sendto(text.encode(), self._address)

    def comes_back(self, text: str, *, within_s: float) -> bool:
        self._socket.settimeout(within_s)
        try:
            while self._socket.recv(100) != text.encode():
                pass
        except TimeoutError:
            return False
        return True

    def heard(self) -> str:
        return self._out.readline().strip()

    def close(self) -> None:
        self._popen.kill()
        self._popen.wait()
        self._out.close()
        self._socket.close()


@pytest.fixture
def echo(network: Network) -> Iterator[Echo]:
    echo = Echo(network)
    yield echo
    echo.close()


@pytest.mark.parametrize("direction", ["both", "to_broker", "to_worker"])
def test_a_cut_lets_packets_vanish_in_its_direction_until_it_is_mended(
    direction: Direction, network: Network, echo: Echo
) -> None:
    echo.send("before")
    assert echo.comes_back("before", within_s=5)
    network.cut(direction)
    echo.send("lost")
    assert not echo.comes_back("lost", within_s=0.3)
    network.mend()
    echo.send("after")
    assert echo.comes_back("after", within_s=5)
    heard = [echo.heard(), echo.heard()]
    # With only the way back cut, the worker's side does hear it.
    assert heard == ["before", "lost" if direction == "to_broker" else "after"]


def test_a_network_leaves_nothing_behind(network: Network) -> None:
    with Network() as other:
        pass
    names = [each["name"] for each in json.loads(subprocess.check_output(["ip", "-json", "netns", "list"]) or "[]")]
    assert network.name in names
    assert other.name not in names
