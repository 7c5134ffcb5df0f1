"""What is wrong with how a gateway is set up."""

from __future__ import annotations


class ConfigurationError(Exception):
    """A gateway can't start like this. The text is one line, names what is set wrong, and holds no secret."""
