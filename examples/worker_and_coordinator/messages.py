"""What the worker and the coordinator say to each other."""

from dataclasses import dataclass
from typing import Any


@dataclass
class StartTask:
    task_id: str
    data: dict[str, Any]


@dataclass
class WorkRequest:
    task_id: str
    data: dict[str, Any]


@dataclass
class WorkResponse:
    task_id: str
    result: str
