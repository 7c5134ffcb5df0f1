"""A Kubernetes cluster as the scenarios see it: `kubectl`, and waits with deadlines."""

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CALL_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Kubectl:
    """Calls `kubectl` in one namespace of one cluster."""

    program: str
    kubeconfig: Path
    cache: Path
    namespace: str

    def __call__(self, *arguments: str, stdin: str | None = None) -> str:
        """Return what the command printed.

        Raises:
            AssertionError: it failed; the message holds what it said.
        """
        where = [f"--kubeconfig={self.kubeconfig}", f"--cache-dir={self.cache}", f"--namespace={self.namespace}"]
        command = [self.program, *where, *arguments]
        done = subprocess.run(command, check=False, input=stdin, capture_output=True, text=True, timeout=CALL_TIMEOUT_S)
        assert done.returncode == 0, (
            f"{' '.join(arguments)}: {done.stderr}{self._tell() if arguments[0] == 'wait' else ''}"
        )
        return done.stdout

    def apply(self, *objects: dict[str, Any]) -> None:
        self("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))

    def get(self, kind: str, name: str) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self("get", kind, name, "-o", "json"))
        return answer

    def wait_until_available(self, *deployments: str, timeout_s: int = 45) -> None:
        names = [f"deployment/{name}" for name in deployments]
        self("wait", "--for=condition=Available", f"--timeout={timeout_s}s", *names)

    def wait_until_served(self, timeout_s: int = 60) -> None:
        """Wait until the API server answers."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                self("get", "--raw", "/readyz")
                return
            except AssertionError:
                assert time.monotonic() < deadline, "the API server does not come back"
                time.sleep(0.5)

    def wait_for(
        self, kind: str, name: str, holds: Callable[[dict[str, Any]], bool], timeout_s: int = 45
    ) -> dict[str, Any]:
        """Return the object once it is as asked for."""
        deadline = time.monotonic() + timeout_s
        while not holds(found := self.get(kind, name)):
            assert time.monotonic() < deadline, (
                f"{kind}/{name} is not as expected after {timeout_s} s: {found['status']}"
            )
            time.sleep(0.2)
        return found

    def _tell(self) -> str:
        return self("get", "pods", "-o", "wide") + self("get", "events", "--sort-by=.lastTimestamp")
