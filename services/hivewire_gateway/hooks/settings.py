"""What can be set about webhooks of others: the tables `[hooks.NAME]` of the configuration."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, field_validator

from hivewire import TopicId
from hivewire_gateway.hooks.signatures import SchemeName
from hivewire_gateway.hooks.templates import Template
from hivewire_gateway.security.settings import SecretSource


def _template(value: object) -> Template:
    if not isinstance(value, str):
        raise ValueError("must be a string")
    return Template.parse(value)


def _hook_name(name: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9_-]+", name) is None:
        raise ValueError("the name of a hook is part of its address: use letters, digits, _ and - only")
    return name


TemplateText = Annotated[Template, PlainValidator(_template)]
HookName = Annotated[str, AfterValidator(_hook_name)]


class HookSettings(BaseModel):
    """The table `[hooks.NAME]`: what comes to `/v1/hooks/NAME`.

    Attributes:
        scheme: How the sender signs.
        secrets: Where its secrets are, each in a file or an environment variable, one or more with one a line. A
            signature by any of them is good, so that they can be changed.
        topic_type: The type of the topic, a template such as `github.{header.X-GitHub-Event}`.
        source: The source of the topic, a template such as `{body.repository.full_name}`.
        id: What a delivery and its repetitions have in common, a template. Default: what the scheme has for it.
        message_type: The name of the message type that agents get it as. Default: that of bare JSON, which is `dict`.
        window_s: How far from now the time of a signature may be, in schemes that sign a time.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    scheme: SchemeName
    secrets: tuple[SecretSource, ...] = Field(min_length=1)
    topic_type: TemplateText
    source: TemplateText
    id: TemplateText | None = None
    message_type: TemplateText | None = None
    window_s: float = Field(default=300.0, gt=0, le=86_400)

    @field_validator("topic_type")
    @classmethod
    def _makes_a_topic_type(cls, template: Template) -> Template:
        TopicId(template.sample(), "x")
        return template
