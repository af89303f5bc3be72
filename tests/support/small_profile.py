"""A profile of small files, described like the real one's."""

import hashlib
import io
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from file_server import FileServer

from weights.download import Patience
from weights.pull import import_from, pull
from weights.records import verify_fetched
from weights.sources import Download, Hub, Mirrors, Site
from weights.store import Event

REPO = Hub("someone/inpainting", "0" * 40)
SITE = Site("https://files.example/models/")
QUICK = Patience(tries=3, wait_s=0.01, timeout_s=10)
UNET_PATH = f"/{REPO.repo}/resolve/{REPO.revision}/unet/big.fp16.safetensors"
CONFIG_PATH = f"/{REPO.repo}/resolve/{REPO.revision}/unet/config.json"
PICKLE_PATH = "/v1/upscaler.pth"


def described(path: str, name: str, source: Hub | Site, content: bytes) -> Download:
    digest = hashlib.sha256(content).hexdigest()
    return Download(path, name, source, "MIT", len(content), digest)


def pickled(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


@dataclass
class Profile:
    """A UNet of 300 kB, its config, and an upscaler that is a pickle."""

    server: FileServer
    folder: Path
    package: Path
    unet: bytes
    config: bytes
    upscaler: dict[str, torch.Tensor]
    files: list[Download]
    events: list[Event] = field(default_factory=list)
    patience: Patience = QUICK

    def pull(self, **mirrors: object) -> None:
        chosen = {
            "hub_endpoint": self.server.url,
            "prefixes": ((SITE.prefix, self.server.url + "/"),),
        }
        self.events.clear()
        pull(
            self.files,
            self.folder,
            self.package,
            Mirrors(**{**chosen, **mirrors}),
            self.patience,
            self.events.append,
        )

    def import_from(self, source: Path) -> None:
        self.events.clear()
        import_from(source, self.files, self.folder, self.package, self.events.append)

    def problems(self) -> list[str]:
        found = verify_fetched(self.files, self.folder, self.package)
        return [str(problem) for problem in found]

    def only(self, *paths: str) -> None:
        self.files = [file for file in self.files if file.path in paths]

    def change(self, path: str, **values: object) -> None:
        self.files = [replace(f, **values) if f.path == path else f for f in self.files]
