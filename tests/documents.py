"""The pages of the documentation as programs: what they show is run, and what they say it prints is compared.

The blocks of a page run in order. A Python block that begins with a comment such as `# worker.py` is a file. Any other
one runs in a namespace that the page's blocks share, as in `python -m asyncio`. A text block after it is what it
prints. A console block runs shell commands beside the files; `&` leaves one running, and the lines below a command are
what it prints. `hivewire gateway` listens on a free port, which takes the place of 8080 in the text. An sh block is a
script whose output is not shown. The Makefile's commands are not run.
"""

import ast
import asyncio
import contextlib
import io
import os
import re
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Self

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAMS = [page for page in PAGES if page.parent.name == "guides" or page.name in ("README.md", "concepts.md")]
"""The pages whose blocks are run."""

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE_NAME = re.compile(r"# ([\w/]+\.py)\n")
_BROKER = "nats://localhost:4222"
_GATEWAY = "localhost:8080"
_METRICS = "localhost:9090"
_SERVES = re.compile("is served|gateway listens")
_OUTPUT_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Block:
    """One fenced block, where it stands, and in what language it is."""

    language: str
    text: str
    line: int

    @property
    def file_name(self) -> str | None:
        found = _FILE_NAME.match(self.text) if self.language == "python" else None
        return found and found[1]


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page that have a language."""
    text = page.read_text()
    return [Block(match[1], match[2], text.count("\n", 0, match.start()) + 2) for match in _BLOCK.finditer(text)]


def needs_broker(page: Path) -> bool:
    return any(
        _BROKER in block.text or "embedded" in block.text or block.language == "console" for block in blocks(page)
    )


async def run_page(page: Path, directory: Path, broker_url: str) -> None:
    """Run all blocks of a page in a directory; a failure names the line of the page."""
    module = ModuleType(f"page_{page.stem.replace('-', '_')}")
    sys.modules[module.__name__] = module
    printed = ""
    gateway_port, metrics_port = free_port(), free_port()
    with Shell(directory, broker_url, gateway_port, metrics_port) as shell:
        for block in blocks(page):
            text = block.text.replace(_BROKER, broker_url).replace(_GATEWAY, f"localhost:{gateway_port}")
            text = text.replace(_METRICS, f"localhost:{metrics_port}")
            match block.language:
                case "python" if block.file_name is not None:
                    (directory / block.file_name).write_text(text)
                case "python":
                    printed = await _run(text, block, page, module)
                case "text":
                    assert printed == block.text, f"the program before {page.name}:{block.line} prints {printed!r}"
                case "console":
                    await asyncio.to_thread(shell.run, text)
                case "sh" if not text.startswith("make "):
                    await asyncio.to_thread(shell.run_script, text)


async def _run(text: str, block: Block, page: Path, module: ModuleType) -> str:
    # Blank lines in front let tracebacks name the line of the page.
    source = "\n" * (block.line - 1) + text
    code = compile(source, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    with contextlib.redirect_stdout(io.StringIO()) as output:
        running = eval(code, module.__dict__)
        if running is not None:
            await asyncio.wait_for(running, 60)
    return output.getvalue()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Shell:
    """Runs shell commands in a directory, and ends at last those that were left running."""

    def __init__(self, directory: Path, broker_url: str, gateway_port: int, metrics_port: int) -> None:
        self._directory = directory
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self._environment = {**os.environ, "PATH": path, "BROKER_URL": broker_url, "PYTHONUNBUFFERED": "1"}
        self._environment |= {
            "HIVEWIRE_GATEWAY_PORT": str(gateway_port),
            "HIVEWIRE_GATEWAY_METRICS_PORT": str(metrics_port),
        }
        self._running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._running:
            process.terminate()
        try:
            codes = [process.wait(timeout=40) for process in self._running]
        finally:
            for process in self._running:
                process.kill()
        assert not any(codes), f"exit codes {codes} after SIGTERM"

    def run(self, text: str) -> None:
        """Run the commands of one block, and compare what they print."""
        for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
            command, _, expected = part.partition("\n")
            if command.endswith(" &"):
                self._start(command[:-2], expected)
            else:
                # Pages show the namespace that users have.
                own = self._environment.get("HIVEWIRE_NAMESPACE", "default")
                printed = self.run_script(command).replace(f'system="{own}"', 'system="default"')
                assert printed == expected, f"{command} prints {printed!r}"

    def run_script(self, script: str) -> str:
        """Run a script, which must succeed, and return what it prints."""
        done = subprocess.run(
            ["sh", "-ec", script],
            check=False,
            cwd=self._directory,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, f"{script}: {done.stderr}"
        return done.stdout

    def _start(self, command: str, expected: str) -> None:
        log = self._directory / f"{len(self._running)}.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                ["sh", "-c", f"exec {command}"],
                cwd=self._directory,
                env=self._environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self._running.append(process)
        deadline = time.monotonic() + _OUTPUT_TIMEOUT_S
        # `hivewire run` and `hivewire gateway` print nothing, and their logs say when they serve.
        while log.read_text() != expected if expected else not _SERVES.search(log.read_text()):
            assert process.poll() is None, f"{command} ended with {process.returncode}"
            assert time.monotonic() < deadline, f"{command} prints {log.read_text()!r}"
            time.sleep(0.02)
