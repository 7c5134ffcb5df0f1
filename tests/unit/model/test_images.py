import base64
import re
import sys
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as PillowImage
from pydantic import BaseModel, TypeAdapter, ValidationError

from hivewire.model import images
from hivewire.model.image_urls import UrlAccess
from hivewire.model.images import Image

RED = (255, 0, 0)


def picture(mode: str = "RGB", size: tuple[int, int] = (4, 3)) -> PillowImage.Image:
    return PillowImage.new(mode, size, RED if mode == "RGB" else 0)


def file_bytes(format: str = "PNG") -> bytes:
    buffer = BytesIO()
    picture().save(buffer, format=format)
    return buffer.getvalue()


def is_the_picture(image: Image) -> bool:
    return image.image.mode == "RGB" and image.image.tobytes() == picture().tobytes()


@pytest.fixture(autouse=True)
def urls_are_off_again() -> Any:
    yield
    Image.forbid_urls()


@pytest.mark.parametrize("mode", ["RGBA", "L", "P", "1", "RGB"])
def test_an_image_is_kept_as_rgb(mode: str) -> None:
    assert Image(picture(mode)).image.mode == "RGB"


def test_an_image_comes_from_a_pillow_image() -> None:
    assert is_the_picture(Image.from_pil(picture()))


@pytest.mark.parametrize("format", ["PNG", "GIF", "BMP", "TIFF"])
def test_an_image_comes_from_bytes(format: str) -> None:
    assert is_the_picture(Image.from_bytes(file_bytes(format)))
    assert is_the_picture(Image.from_bytes(file_bytes(format), format=format.lower()))


@pytest.mark.parametrize("format", ["jpg", "JPEG"])
def test_jpg_is_another_word_for_jpeg(format: str) -> None:
    assert Image.from_bytes(file_bytes("JPEG"), format=format).image.size == (4, 3)


def test_bytes_of_another_format_than_said_are_refused() -> None:
    with pytest.raises(ValueError, match="JPEG"):
        Image.from_bytes(file_bytes("PNG"), format="jpeg")


def test_a_format_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ValueError, match="nonsense"):
        Image.from_bytes(file_bytes(), format="nonsense")


def test_formats_whose_readers_start_programs_have_to_be_asked_for() -> None:
    postscript = file_bytes("EPS")
    with pytest.raises(ValueError, match="not an image"):
        Image.from_bytes(postscript)
    with pytest.raises(ValueError, match="not an image"):
        Image.from_base64(base64.b64encode(postscript).decode())


@pytest.mark.parametrize("data", [b"", b"no image", file_bytes()[:40], file_bytes()[:-30]])
def test_bytes_that_are_no_whole_image_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="image"):
        Image.from_bytes(data)


def test_an_image_that_would_fill_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PillowImage, "MAX_IMAGE_PIXELS", 5)
    with pytest.raises(ValueError, match="too large"):
        Image.from_bytes(file_bytes())


def test_an_image_survives_its_way_through_base64() -> None:
    text = Image(picture()).to_base64()
    assert base64.b64decode(text).startswith(b"\x89PNG")
    assert is_the_picture(Image.from_base64(text))


@pytest.mark.parametrize("text", ["no base64!", "abc", base64.b64encode(b"no image").decode(), "ünïcode"])
def test_base64_of_no_image_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Image.from_base64(text)


def test_an_image_survives_its_way_through_a_data_uri() -> None:
    uri = Image(picture()).data_uri
    assert uri.startswith("data:image/png;base64,")
    assert is_the_picture(Image.from_uri(uri))


def test_a_jpeg_data_uri_is_read() -> None:
    data = base64.b64encode(file_bytes("JPEG")).decode()
    assert Image.from_uri(f"data:image/jpeg;base64,{data}").image.size == (4, 3)


@pytest.mark.parametrize(
    "uri",
    ["", "https://example.com/a.png", "data:image/gif;base64,AAAA", "data:text/plain,hi", " data:image/png;base64,"],
)
def test_other_uris_are_refused(uri: str) -> None:
    with pytest.raises(ValueError, match="data:image"):
        Image.from_uri(uri)


@pytest.mark.parametrize("as_given", [str, Path])
def test_an_image_comes_from_a_file(tmp_path: Path, as_given: Any) -> None:
    file = tmp_path / "photo.png"
    file.write_bytes(file_bytes())
    assert is_the_picture(Image.from_file(as_given(file)))


def test_a_file_that_is_no_image_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "photo.jpg"
    file.write_text("hello")
    with pytest.raises(ValueError, match="not an image"):
        Image.from_file(file)


def test_a_missing_file_is_the_systems_own_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Image.from_file(tmp_path / "none.png")


def test_the_openai_format_holds_the_data_uri() -> None:
    image = Image(picture())
    assert image.to_openai_format() == {"type": "image_url", "image_url": {"url": image.data_uri, "detail": "auto"}}
    assert image.to_openai_format("low")["image_url"]["detail"] == "low"


def test_a_notebook_shows_the_image() -> None:
    image = Image(picture())
    assert image._repr_html_() == f'<img src="{image.data_uri}"/>'


class Message(BaseModel):
    text: str
    image: Image


@dataclass
class DataclassMessage:
    parts: list[str | Image]


def test_a_model_writes_and_reads_an_image_as_base64() -> None:
    message = Message(text="hi", image=Image(picture()))
    assert message.model_dump() == {"text": "hi", "image": {"data": message.image.to_base64()}}
    assert is_the_picture(Message.model_validate_json(message.model_dump_json()).image)
    assert is_the_picture(Message.model_validate(message.model_dump()).image)


def test_a_model_keeps_the_image_that_it_is_given() -> None:
    image = Image(picture())
    assert Message(text="hi", image=image).image is image


def test_a_dataclass_may_mix_text_and_images() -> None:
    adapter = TypeAdapter(DataclassMessage)
    back = adapter.validate_json(adapter.dump_json(DataclassMessage(parts=["look", Image(picture())])))
    assert back.parts[0] == "look"
    assert isinstance(back.parts[1], Image)
    assert is_the_picture(back.parts[1])


@pytest.mark.parametrize("value", [{}, {"data": 1}, {"data": "no image"}, "text", 3, None])
def test_a_model_refuses_what_is_no_image(value: Any) -> None:
    with pytest.raises(ValidationError):
        Message.model_validate({"text": "hi", "image": value})


@pytest.mark.parametrize("mode", ["validation", "serialization"])
def test_the_json_schema_says_how_an_image_is_written(mode: Any) -> None:
    schema = Message.model_json_schema(mode=mode)["properties"]["image"]
    assert schema["type"] == "object"
    assert schema["properties"]["data"]["type"] == "string"


def test_row_d23_urls_are_off_until_they_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(url: str, access: UrlAccess) -> bytes:
        raise AssertionError("nothing may be fetched")

    monkeypatch.setattr(images, "fetch", fetch)
    with pytest.raises(ValueError, match=re.escape("Image.allow_urls()")):
        Image.from_url("https://example.com/image.png")


def test_allowed_urls_are_fetched_until_they_are_forbidden_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, UrlAccess]] = []

    def fetch(url: str, access: UrlAccess) -> bytes:
        asked.append((url, access))
        return file_bytes()

    monkeypatch.setattr(images, "fetch", fetch)
    Image.allow_urls()
    assert is_the_picture(Image.from_url("https://example.com/image.png"))
    Image.allow_urls("Example.com")
    Image.from_url("https://example.com/image.png")
    assert asked == [
        ("https://example.com/image.png", UrlAccess(hosts=None)),
        ("https://example.com/image.png", UrlAccess(hosts=frozenset({"example.com"}))),
    ]
    Image.forbid_urls()
    with pytest.raises(ValueError):
        Image.from_url("https://example.com/image.png")


def test_without_pillow_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=re.escape("pip install 'hivewire[images]'")):
        Image.from_bytes(b"")
    with pytest.raises(ImportError, match=re.escape("pip install 'hivewire[images]'")):
        Image.from_bytes(b"", format="png")
