"""Fetch the openly licensed photographs that the upscaler is trained and measured on.

    python -m weights.training.photos --data DIR

Fills `DIR/photos` from Debian's wallpaper packages (by `apt-get download`; each package's copyright
file names the licences) and `DIR/photos-held-out` from scikit-image's samples (by uv). Only
photographs without people were picked. Each is reduced to at most 1,600 px a side, which also takes
the camera's noise and the JPEG's blocks out.
"""

import argparse
import subprocess
import tempfile
from pathlib import Path

from PIL import Image

LONGEST_PX = 1600

# Package → licence, and its photographs: the beginnings of their paths below usr/share.
PACKAGES = {
    # CC-BY-4.0, CC-BY-SA-3.0 or CC-BY-SA-4.0, by picture
    "lomiri-wallpapers-16.04": (
        "backgrounds/Bridge_by",
        "backgrounds/Dragonfly_by",
        "backgrounds/Picture_0B_by",
        "backgrounds/Picture_1A_by",
        "backgrounds/Wine_by",
        "backgrounds/aitzgorri_by",
        "backgrounds/free_by",
        "backgrounds/friends_by",
        "backgrounds/greentock_by",
        "backgrounds/life_by",
        "backgrounds/picosdeeuropa_by",
        "backgrounds/seeding_by",
        "backgrounds/sunset_by",
    ),
    "lomiri-wallpapers-20.04": ("backgrounds/Kleiber_by",),  # CC-BY-SA-4.0
    "mate-backgrounds": ("backgrounds/mate/nature/[A-Z]",),  # GPL-2+
    "plasma-workspace-wallpapers": (  # GPL-2+
        "wallpapers/ColorfulCups/contents/images/2560x1600",
        "wallpapers/EveningGlow/contents/images/2560x1600",
        "wallpapers/FallenLeaf/contents/images/2560x1600",
        "wallpapers/Grey/contents/images/2560x1600",
        "wallpapers/OneStandsOut/contents/images/2560x1600",
        "wallpapers/Path/contents/images/2560x1600",
        "wallpapers/BytheWater/contents/images/2560x1600",
    ),
}
# CC0 or public domain, see skimage/data/README.txt.
SAMPLES = ("chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")


def keep(file: Path, folder: Path, name: str) -> None:
    """Write the picture as RGB PNG, reduced."""
    with Image.open(file) as picture:
        rgb = picture.convert("RGB")
    rgb.thumbnail((LONGEST_PX, LONGEST_PX), Image.Resampling.LANCZOS)
    rgb.save(folder / f"{name}.png")


def fetch_wallpapers(folder: Path) -> None:
    """Download, unpack and keep the photographs of `PACKAGES`."""
    with tempfile.TemporaryDirectory() as temporary:
        subprocess.run(["apt-get", "download", *PACKAGES], cwd=temporary, check=True)
        for package, beginnings in PACKAGES.items():
            (archive,) = Path(temporary).glob(f"{package}_*.deb")
            unpacked = Path(temporary) / package
            subprocess.run(["dpkg-deb", "-x", archive, unpacked], check=True)
            share = unpacked / "usr" / "share"
            for beginning in beginnings:
                for file in sorted(share.glob(f"{beginning}*")):
                    keep(file, folder, "-".join(file.relative_to(share).with_suffix("").parts[1:]))


def fetch_samples(folder: Path) -> None:
    """Install scikit-image into a temporary folder and keep its `SAMPLES`."""
    with tempfile.TemporaryDirectory() as temporary:
        command = [
            "uv",
            "pip",
            "install",
            "--no-deps",
            "--target",
            temporary,
            "scikit-image==0.26.0",
        ]
        subprocess.run(command, check=True)
        for name in SAMPLES:
            keep(Path(temporary) / "skimage" / "data" / name, folder, Path(name).stem)


def main() -> None:
    """Fill both folders."""
    parser = argparse.ArgumentParser(
        prog="python -m weights.training.photos", description="Fetch training photographs."
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="folder that gets photos/ and photos-held-out/"
    )
    data = parser.parse_args().data
    for name, fetch in (("photos", fetch_wallpapers), ("photos-held-out", fetch_samples)):
        (data / name).mkdir(parents=True, exist_ok=True)
        fetch(data / name)
        print(f"{len(list((data / name).glob('*.png')))} photographs in {data / name}", flush=True)


if __name__ == "__main__":
    main()
