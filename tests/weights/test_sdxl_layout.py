"""What `pull` leaves behind is what the pipeline loads: the tiny networks under sdxl's names."""

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from file_server import FileServer
from safetensors.torch import load_file, save
from small_profile import QUICK, pickled
from spandrel.architectures.Compact import Compact

from pipeline.detailer import FaceDetailer
from pipeline.loading import load
from pipeline.models.yolo import YAML, DetectionModel
from weights.manifest import PACKAGE_DIR, profile_folder, profile_path
from weights.pull import pull
from weights.sources import Download, Hub, Mirrors, Site, chosen, downloads

TINY = profile_folder("tiny")


def content_of(file: Download) -> bytes:
    """What the sources would send, were sdxl's networks the tiny ones."""
    if file.path == "detector/face_yolov8m.safetensors":
        model = DetectionModel(YAML.load(TINY / "detector/yolov8-face.yaml"), verbose=False)
        model.load_state_dict(load_file(TINY / "detector/model.safetensors"))
        return pickled({"epoch": -1, "model": model.half(), "ema": None})
    if file.path == "segmenter/vit_b.safetensors":
        return pickled(load_file(TINY / "segmenter/model.safetensors"))
    if file.path == "upscaler/x2plus.safetensors":
        return pickled({"params_ema": load_file(TINY / "upscaler/x2.safetensors")})
    if file.path == "upscaler/x4plus.safetensors":
        network = Compact(num_feat=4, num_conv=1, upscale=4)
        return pickled({"params_ema": network.state_dict()})
    if file.path.endswith("special_tokens_map.json"):
        return b"{}"
    if file.role == "lora":
        return save(lora())
    return (TINY / file.path.replace("unet_inpainting", "unet")).read_bytes()


def lora() -> dict[str, torch.Tensor]:
    """A small change of one matrix of the tiny UNet."""
    name = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    weights = load_file(TINY / "unet/diffusion_pytorch_model.safetensors")[f"{name}.weight"]
    kohya = f"lora_unet_{name.replace('.', '_')}"
    return {
        f"{kohya}.lora_down.weight": torch.ones(1, weights.shape[1]),
        f"{kohya}.lora_up.weight": torch.ones(weights.shape[0], 1),
        f"{kohya}.alpha": torch.tensor(1.0),
    }


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """sdxl's own profile.toml, but for the work sizes; the tiny networks' dimensions."""
    package = shutil.copytree(PACKAGE_DIR / "sdxl", tmp_path / "package")
    shutil.copyfile(TINY / "detector/yolov8-face.yaml", package / "detector/yolov8m-face.yaml")
    shutil.copyfile(TINY / "segmenter/config.json", package / "segmenter/vit_b.json")
    text = (package / "profile.toml").read_text()
    for sizes in ("[768, 1024]", "[1024]", "[768]"):
        assert sizes in text
        text = text.replace(sizes, "[64]")
    (package / "profile.toml").write_text(text)
    return package


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sdxl", "sdxl-fast", "sdxl-inpainting"])
def test_what_is_pulled_is_what_is_loaded(
    server: FileServer, package: Path, tmp_path: Path, name: str
) -> None:
    torch.manual_seed(0)
    files = []
    for file in chosen(downloads(name), []):
        content = content_of(file)
        prefix = "/" if isinstance(file.source, Site) else ""
        if isinstance(file.source, Hub):
            prefix = f"/{file.source.repo}/resolve/{file.source.revision}/"
        server.files[prefix + file.name] = content
        digest = hashlib.sha256(content).hexdigest()
        files.append(replace(file, bytes=len(content), sha256=digest))
    prefixes = {f.source.prefix: f"{server.url}/" for f in files if isinstance(f.source, Site)}
    mirrors = Mirrors(server.url, tuple(prefixes.items()))
    folder = profile_folder(name, tmp_path)
    pull(files, folder, package, mirrors, QUICK, lambda _: None)
    detailer = load(profile_path(name, tmp_path), "cpu")
    assert detailer.profile.name == name
    assert isinstance(detailer, FaceDetailer)
