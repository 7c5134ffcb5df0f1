"""The request of a model that a tool be run."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["FunctionCall"]


@dataclass(init=False)
class FunctionCall:
    """Name a tool and its arguments.

    `arguments` is JSON text, as models write it; a mapping given to the constructor is turned into such text.
    """

    id: str
    arguments: str
    name: str

    def __init__(self, id: str, arguments: str | Mapping[str, Any], name: str) -> None:
        """Store the call.

        Raises:
            TypeError: `arguments` is a mapping with values that JSON has no form for.
        """
        self.id = id
        self.arguments = arguments if isinstance(arguments, str) else json.dumps(dict(arguments))
        self.name = name
