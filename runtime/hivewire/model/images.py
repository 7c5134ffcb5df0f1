"""Pictures in messages.

An image crosses the wire as PNG in base64. Pillow does the work and is an optional dependency: nothing here needs it
before the first image is made. What cannot be read as a picture is a `ValueError`, wherever it came from.
"""

import base64
import binascii
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from hivewire.model.image_urls import UrlAccess, fetch

if TYPE_CHECKING:
    from PIL import Image as PillowImage

__all__ = ["Image"]


class Image:
    """Hold an RGB picture as a Pillow image in `image`.

    Whatever reads a picture raises `ImportError`, saying what to install, when Pillow is missing.
    """

    _url_access: ClassVar[UrlAccess | None] = None

    def __init__(self, image: "PillowImage.Image") -> None:
        """Take a copy of a Pillow image, converted to RGB.

        Raises:
            ValueError: the image's data is broken or too large.
        """
        self.image: PillowImage.Image = _as_rgb(image)

    @classmethod
    def from_pil(cls, pil_image: "PillowImage.Image") -> Self:
        """Take a copy of a Pillow image."""
        return cls(pil_image)

    @classmethod
    def from_bytes(cls, data: bytes, format: str | None = None) -> Self:
        """Read a PNG, JPEG, GIF, WebP, BMP, TIFF or ICO file, or only one of the given format (such as `png`).

        Pillow can read more, and some of its readers start other programs; data that may come from a message must not
        reach those, so they have to be asked for by `format`.

        Raises:
            ValueError: the data is not such an image.
        """
        return cls(_open(BytesIO(data), formats=_COMMON_FORMATS if format is None else (_pillow_format(format),)))

    @classmethod
    def from_base64(cls, base64_str: str) -> Self:
        """Read an image file that was encoded as base64.

        Raises:
            ValueError: the text is not base64, or not of an image.
        """
        try:
            data = base64.b64decode(base64_str, validate=True)
        except (binascii.Error, ValueError) as error:
            raise ValueError(f"The image is not valid base64: {error}.") from error
        return cls.from_bytes(data)

    @classmethod
    def from_uri(cls, uri: str) -> Self:
        """Read a base64 data URI of a PNG or JPEG file. No network is involved.

        Raises:
            ValueError: it is another kind of URI, or its data is not an image.
        """
        for prefix in ("data:image/png;base64,", "data:image/jpeg;base64,"):
            if uri.startswith(prefix):
                return cls.from_base64(uri.removeprefix(prefix))
        raise ValueError("An image URI has the form data:image/png;base64,… or data:image/jpeg;base64,….")

    @classmethod
    def from_file(cls, file_path: str | Path) -> Self:
        """Read an image file of any kind that Pillow knows.

        Raises:
            OSError: the file cannot be read.
            ValueError: it is not an image.
        """
        return cls(_open(BytesIO(Path(file_path).read_bytes()), formats=None))

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Fetch an image over https. It blocks for up to half a minute; in a handler, use `asyncio.to_thread`.

        This is refused until the program has called `Image.allow_urls`, because a message may carry the URL and its
        sender would choose what this process connects to. Even then: https only, at most 20 MB, and no host with a
        private, loopback or link-local address; the connection goes to the very address that was checked.

        Raises:
            ValueError: URLs are not allowed, this one is refused, the fetch failed, or it is not an image.
        """
        access = Image._url_access
        if access is None:
            raise ValueError("Images are not fetched from URLs unless the program calls Image.allow_urls() first.")
        return cls.from_bytes(fetch(url, access))

    @staticmethod
    def allow_urls(*hosts: str) -> None:
        """Allow `from_url` in this process: for these host names only, or for every public host when none is given.

        A later call replaces an earlier one.
        """
        Image._url_access = UrlAccess(hosts=frozenset(host.lower() for host in hosts) or None)

    @staticmethod
    def forbid_urls() -> None:
        """Take `allow_urls` back."""
        Image._url_access = None

    def to_base64(self) -> str:
        """Return the image as a PNG file in base64."""
        buffer = BytesIO()
        self.image.save(buffer, format="PNG")
        return base64.b64encode(buffer.getvalue()).decode("ascii")

    @property
    def data_uri(self) -> str:
        """The image as a data URI that holds a PNG file."""
        return f"data:image/png;base64,{self.to_base64()}"

    def to_openai_format(self, detail: Literal["auto", "low", "high"] = "auto") -> dict[str, Any]:
        """Return the content part that OpenAI's chat API takes for an image."""
        return {"type": "image_url", "image_url": {"url": self.data_uri, "detail": detail}}

    def _repr_html_(self) -> str:
        return f'<img src="{self.data_uri}"/>'

    @classmethod
    def __get_pydantic_core_schema__(cls, source_type: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Read and write `{"data": base64}`; in Python, images pass as they are."""
        wire_form = core_schema.typed_dict_schema({"data": core_schema.typed_dict_field(core_schema.str_schema())})
        from_wire = core_schema.no_info_after_validator_function(lambda form: cls.from_base64(form["data"]), wire_form)
        return core_schema.json_or_python_schema(
            json_schema=from_wire,
            python_schema=core_schema.union_schema([core_schema.is_instance_schema(cls), from_wire]),
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda image: {"data": image.to_base64()}, return_schema=wire_form
            ),
        )


_COMMON_FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "ICO")


def _as_rgb(image: "PillowImage.Image") -> "PillowImage.Image":
    try:
        # Pillow reads pixels only now, so this is where truncated data shows.
        return image.convert("RGB")
    except Exception as error:  # broken data makes Pillow's readers raise nearly anything
        raise ValueError(f"The image cannot be decoded: {error}.") from error


def _open(data: BytesIO, *, formats: tuple[str, ...] | None) -> "PillowImage.Image":
    pillow = _pillow()
    try:
        opened: PillowImage.Image = pillow.open(data, formats=formats)
    except Exception as error:  # broken data makes Pillow's readers raise nearly anything
        kinds = "any known format" if formats is None else " or ".join(formats)
        raise ValueError(f"The data is not an image of {kinds}, or too large.") from error
    return opened


def _pillow_format(name: str) -> str:
    pillow = _pillow()
    pillow.init()
    known = "JPEG" if name.upper() == "JPG" else name.upper()
    if known not in pillow.OPEN:
        raise ValueError(f"Pillow knows no image format {name!r}.")
    return known


def _pillow() -> Any:
    try:
        from PIL import Image as PillowImage
    except ImportError as error:
        raise ImportError("Images need Pillow, which is optional: pip install 'hivewire[images]'.") from error
    return PillowImage
