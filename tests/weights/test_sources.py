"""What manifest.toml says, and what the sdxl profile ships with."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import segment_anything
import torch

from pipeline.config_reading import read_profile
from pipeline.models.sam import build_sam
from pipeline.models.yolo import YAML
from weights.manifest import PACKAGE_DIR, ProfileError, profile_path
from weights.sources import Download, Hub, Mirrors, Site, chosen, downloads

# After the adapter, which keeps ultralytics from the network.
from ultralytics.utils import ROOT  # isort: skip

FILES = downloads("sdxl")
PACKAGE = PACKAGE_DIR / "sdxl"
DOCS = Path(__file__).parents[2] / "docs" / "weights.md"


def shown_size(file: Download) -> str:
    return f"{file.bytes / 1e6:,.1f} MB" if file.bytes >= 1e5 else f"{file.bytes / 1e3:,.1f} kB"


def test_docs_list_every_file_with_its_source_size_and_licence() -> None:
    rows = re.findall(
        r"^\| `(\w+/.+?)` \| `(.+?)` \| (.+?) \| (.+?) \| (.*?) \|$", DOCS.read_text(), re.M
    )
    assert rows == [
        (
            file.path,
            f"{file.source}: {file.name}",
            shown_size(file),
            file.licence,
            f"`--with {file.extra}`" if file.extra else "",
        )
        for file in FILES
    ]


# --- the manifest ---


def test_every_file_has_size_and_hash() -> None:
    for file in FILES:
        is_text = file.path.endswith((".json", ".txt"))
        assert is_text or file.path.endswith((".safetensors", ".onnx"))
        assert 0 < file.bytes < 2e6 if is_text else file.bytes > 2e5, file
    assert len({file.path for file in FILES}) == len(FILES)
    # Both tokenizers have one vocabulary.
    hashes = [file.sha256 for file in FILES if not file.path.startswith("tokenizer_2/")]
    assert len(set(hashes)) == len(hashes)


def test_diffusers_finds_each_part_under_its_usual_name() -> None:
    paths = {file.path for file in chosen(FILES, [])}
    for part in ("unet", "vae"):
        assert {f"{part}/config.json", f"{part}/diffusion_pytorch_model.safetensors"} <= paths
    for part in ("text_encoder", "text_encoder_2"):
        assert {f"{part}/config.json", f"{part}/model.safetensors"} <= paths
    for part in ("tokenizer", "tokenizer_2"):
        assert {
            f"{part}/vocab.json",
            f"{part}/merges.txt",
            f"{part}/tokenizer_config.json",
        } <= paths
    assert "scheduler/scheduler_config.json" in paths


def test_a_variant_needs_its_own_file_too() -> None:
    for variant, path in (
        ("sdxl-fast", "lora/sdxl_lightning_8step_lora.safetensors"),
        ("sdxl-inpainting", "unet_inpainting/diffusion_pytorch_model.safetensors"),
    ):
        more = {f.path for f in chosen(downloads(variant), [])} - {
            f.path for f in chosen(FILES, [])
        }
        assert path in more
        config = read_profile(PACKAGE / profile_path(variant, Path()).name).inpainter
        assert path in {*(lora.file for lora in config.loras), f"{config.unet}/{Path(path).name}"}


def test_addresses_are_those_of_hub_and_site() -> None:
    hub = Download("unet/a.json", "a b.json", Hub("who/what", "f" * 40), "MIT", 2, "0" * 64)
    assert Mirrors("https://hub.example").address(hub) == (
        f"https://hub.example/who/what/resolve/{'f' * 40}/a%20b.json"
    )
    site = Download("x/a.json", "v1/a.json", Site("https://a.example/b/"), "MIT", 2, "0" * 64)
    assert Mirrors().address(site) == "https://a.example/b/v1/a.json"
    other = Mirrors(prefixes=(("https://a.example/", "http://c.example/d/"),))
    assert other.address(site) == "http://c.example/d/b/v1/a.json"


def test_extras_come_only_on_request() -> None:
    default = chosen(FILES, [])
    assert all(file.extra is None for file in default)
    more = set(chosen(FILES, ["sam-vit-h"])) - set(default)
    assert [file.path for file in more] == ["segmenter/vit_h.safetensors"]
    gate = read_profile(PACKAGE).identity
    assert {file.path for file in set(chosen(FILES, ["identity"])) - set(default)} == {
        gate.weights,
        gate.landmarks,
    }
    with pytest.raises(
        ProfileError, match="unknown extra 'x': expected one of identity, inpainting-unet"
    ):
        chosen(FILES, ["x"])
    with pytest.raises(ProfileError, match="the profile 'tiny' has nothing to download"):
        downloads("tiny")


RIGHT = {
    "name": "a.json",
    "source": Site("https://a.example/"),
    "licence": "MIT",
    "bytes": 2,
    "sha256": "0" * 64,
}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"path": "../a.json"}, "expected a path inside the profile's folder"),
        ({"path": "/a.json"}, "expected a path inside the profile's folder"),
        (
            {"path": "a.safetensors", "name": "a.pth", "sha256": ""},
            "expected the sha256 of a.pth, got ''",
        ),
        ({"path": "a.pth", "name": "a.pth"}, "expected a.pth to be stored as"),
        ({"path": "a.bin", "name": "a.json"}, "expected a.json to be stored as"),
    ],
)
def test_wrong_entries_are_refused(values: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Download(**RIGHT | values)


def test_reading_it_loads_neither_torch_nor_the_hub() -> None:
    code = (
        "import sys, weights.pull, weights.sources; weights.sources.downloads('sdxl');"
        "print({'torch', 'huggingface_hub', 'pipeline', 'server'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


# --- what ships with it ---


def test_every_file_that_the_profile_names_is_shipped_or_pulled() -> None:
    profile = read_profile(PACKAGE)
    pulled = {file.path for file in chosen(FILES, [])}
    shipped = {f.relative_to(PACKAGE).as_posix() for f in PACKAGE.rglob("*") if f.is_file()}
    assert {profile.detector.yaml, profile.segmenter.config} <= shipped
    named = {
        profile.detector.weights,
        profile.segmenter.weights,
        *profile.upscaler.weights.values(),
    }
    assert named <= pulled
    assert not pulled & shipped
    assert set(profile.upscaler.weights) == {2, 4}


@pytest.mark.parametrize("size", ["vit_b", pytest.param("vit_l", marks=pytest.mark.slow), "vit_h"])
def test_segmenters_have_the_official_dimensions(size: str) -> None:
    config = json.loads((PACKAGE / "segmenter" / f"{size}.json").read_text())
    with torch.device("meta"):
        ours = build_sam(config)
        official = segment_anything.sam_model_registry[size]()
    assert {name: t.shape for name, t in ours.state_dict().items()} == {
        name: t.shape for name, t in official.state_dict().items()
    }
    assert [b.window_size for b in ours.image_encoder.blocks] == [
        b.window_size for b in official.image_encoder.blocks
    ]
    assert config["pixel_mean"] == [123.675, 116.28, 103.53]
    assert config["pixel_std"] == [58.395, 57.12, 57.375]


@pytest.mark.parametrize("scale", ["m", "n"])
def test_detectors_have_ultralytics_own_layers(scale: str) -> None:
    ours = YAML.load(PACKAGE / "detector" / f"yolov8{scale}-face.yaml")
    official = YAML.load(ROOT / "cfg" / "models" / "v8" / "yolov8.yaml")
    layers = {part: official[part] for part in ("backbone", "head")}
    scales = {scale: official["scales"][scale]}
    assert ours == {"nc": 1, "scale": scale, "scales": scales, **layers}
