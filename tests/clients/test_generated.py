"""A client generated from the OpenAPI document, by openapi-python-client, on the demo's picture."""

import base64
import importlib
import io
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import PIL.Image
import pytest

PROGRAM = Path(sys.executable).with_name("openapi-python-client")
DEMO = Path(__file__).parents[2] / "examples" / "astronaut-damaged.jpg"
# It knows these media types only by another name.
CONFIG = """\
post_hooks: []
content_type_overrides:
  image/jpeg: application/octet-stream
  image/png: application/octet-stream
  image/webp: application/octet-stream
  multipart/byteranges: application/octet-stream
"""


@pytest.fixture(scope="module")
def generated(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    folder = tmp_path_factory.mktemp("generated")
    (folder / "config.yaml").write_text(CONFIG)
    command = [PROGRAM, "generate", "--url", f"{server_url}/openapi.json", "--meta", "none"]
    options = ["--config", "config.yaml", "--output-path", "faces_client", "--fail-on-warning"]
    done = subprocess.run([*command, *options], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    sys.path.insert(0, str(folder))
    yield importlib.import_module("faces_client")
    sys.path.remove(str(folder))


@pytest.fixture
def client(generated: ModuleType, server_url: str, new_key: Callable[[int], str]) -> Iterator[Any]:
    with generated.AuthenticatedClient(
        base_url=server_url,
        token=new_key(1),
        prefix="",
        auth_header_name="x-api-key",
        timeout=60,
        httpx_args={"trust_env": False},
    ) as client:
        yield client


def module(name: str) -> Any:
    return importlib.import_module(f"faces_client.{name}")


def size_and_format(picture: bytes) -> tuple[tuple[int, int], str | None]:
    with PIL.Image.open(io.BytesIO(picture)) as image:
        return image.size, image.format


@pytest.mark.slow
def test_it_details_the_demos_picture(client: Any) -> None:
    models = module("models")
    body = models.DetailFacesBody(
        image=base64.b64encode(DEMO.read_bytes()).decode(),
        prompt="detailed face",
        denoise=0.4,
        num_inference_steps=15,
        image_format=models.DetailFacesBodyImageFormat.PNG,
        upscale=models.DetailFacesBodyUpscale.VALUE_1,
    )
    reply = module("api.faces.detail_faces").sync_detailed(client=client, body=body)
    assert reply.status_code == 200
    assert isinstance(reply.parsed, models.Picture)
    assert reply.headers["x-faces-unchanged"] == "0"
    assert size_and_format(base64.b64decode(reply.parsed.image)) == ((512, 512), "PNG")
    before = PIL.Image.open(DEMO).convert("RGB")
    after = PIL.Image.open(io.BytesIO(base64.b64decode(reply.parsed.image))).convert("RGB")
    box = (174, 71, 272, 201)
    assert before.crop(box).tobytes() != after.crop(box).tobytes()
    assert before.crop((0, 300, 512, 512)).tobytes() == after.crop((0, 300, 512, 512)).tobytes()


def test_it_sends_a_form_to_the_queue_and_gets_the_file(client: Any, picture: bytes) -> None:
    models, types = module("models"), module("types")
    file = types.File(io.BytesIO(picture), "face.png", "image/png")
    form = models.SubmitRequestForm(image=file, prompt="", denoise=0.0, base64=False)
    accepted = module("api.queue.submit_request").sync(client=client, body=form)
    assert isinstance(accepted, models.Accepted)
    stream = module("api.queue.stream_events").sync(accepted.request_id, client=client)
    assert "event: done" in stream
    result = module("api.queue.get_result").sync(accepted.request_id, client=client)
    assert isinstance(result, models.Result)
    assert (result.status, result.error) == (models.ResultStatus.COMPLETED, None)
    token, name = result.output.split("/")[-2:]
    file = module("api.queue.get_result_file").sync(token, name, client=client)
    assert size_and_format(file.payload.read()) == ((128, 96), "JPEG")


def test_its_errors_are_the_servers(client: Any, picture_base64: str) -> None:
    models = module("models")
    body = models.DetailFacesBody(image=picture_base64, prompt="", denoise=0.0, samples=5)
    reply = module("api.faces.detail_faces").sync(client=client, body=body)
    assert reply == models.Error(error="samples should be between 1 and 4")
