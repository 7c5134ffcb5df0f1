"""A nats-server of any version, started with nothing but what the test says."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path


@asynccontextmanager
async def bare_server(binary: Path, directory: Path, *, config: str = "") -> AsyncIterator[str]:
    """Run a server on a free loopback port and give its address."""
    config_file = directory / "server.conf"
    config_file.write_text(f'listen: "127.0.0.1:-1"\nports_file_dir: {json.dumps(str(directory))}\n{config}\n')
    process = subprocess.Popen([binary, "-c", config_file], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        async with asyncio.timeout(15):
            while not (urls := _urls(directory)):
                assert process.poll() is None, "the server ended"
                await asyncio.sleep(0.01)
        yield urls[0]
    finally:
        process.kill()
        process.wait()


def _urls(directory: Path) -> list[str]:
    for ports_file in directory.glob("*.ports"):
        try:
            urls: list[str] = json.loads(ports_file.read_bytes())["nats"]
            return urls
        except ValueError:
            pass  # The server has made the file and not yet written it.
    return []
