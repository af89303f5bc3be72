"""Downloads openly licensed pictures without people to train and measure the networks on.

    python -m training.photos --data DIR

They come from Debian's packages (by `apt-get download`; each package's copyright file names the
licences) and from scikit-image's samples (by uv):

* `DIR/photos` and `DIR/photos-held-out`, for the upscaler: photographs, reduced to at most 1,600 px
  a side, which also removes camera noise and JPEG blocks.
* `build/training/scenes`, for the detector and the masker: backgrounds, at most 1,024 px a side.
* `build/training/objects`, for the detector: cut-out animals, fruit, wheels, planets and the like,
  at most 256 px a side, with alpha.
"""

import argparse
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from training.qt_resources import read_resources

PHOTO_PX = 1600
SCENE_PX = 1024
OBJECT_PX = 256
SMALLEST_SCENE_PX = 256

# The upscaler's photographs: package → the beginnings of their paths in usr/share. The comments
# name the licences.
PHOTOS = {
    # CC-BY-4.0, CC-BY-SA-3.0 or CC-BY-SA-4.0, depending on the picture
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

# All pictures in these packages and in scikit-image are scenes. CC BY, CC BY-SA, CC0 and GPL-2+.
SCENES = (
    "gnome-backgrounds",
    "lomiri-wallpapers-20.04",
    "mate-backgrounds",
    "plasma-workspace-wallpapers",
    "ukui-wallpapers",
)
OPENCV_SAMPLES = (
    "HappyFish",
    "aloe",
    "apple",
    "building",
    "butterfly",
    "fruits",
    "home",
    "leuven",
    "orange",
    "squirrel",
)
# From these packages, only the pictures whose paths in usr/share begin like this are scenes.
MORE_SCENES = {
    "kalzium-data": ("kalzium/data/toolpics/",),  # GPL-2+
    "krank": ("games/krank/levels/unera-backgrounds/",),  # public domain
    "lomiri-wallpapers-16.04": ("backgrounds/",),  # CC-BY-4.0, CC-BY-SA-3.0 or CC-BY-SA-4.0
    "mate-screensaver-common": ("backgrounds/cosmos/",),  # GPL-2+
    "opencv-doc": (  # Apache-2.0 and BSD
        *(f"doc/opencv-doc/examples/data/{name}" for name in OPENCV_SAMPLES),
        "doc/opencv-doc/examples/text/scenetext0",
    ),
    "palapeli-data": ("palapeli/",),  # GPL-2+
    "scratch": ("scratch/Media/Backgrounds/",),  # CC-BY-SA-3.0
    "tuxpaint-data": ("tuxpaint/templates/",),  # GPL-2+
}
# GCompris' photographs from these activities are scenes too. CC BY, CC BY-SA, CC0, GPL and public
# domain, depending on the picture.
GCOMPRIS = "gcompris-qt-data"
ACTIVITIES = ("categorization", "explore_farm_animals", "explore_world_animals")
SCENE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
# Excluded: pictures of real people, sculpted and painted faces, thumbnails.
NO_SCENES = (
    "astronaut",
    "ball-field",
    "camera",
    "graffiti",
    "lfw",
    "monuments/",
    "mural",
    "preview",
    "screenshot",
)

# GPL-2. Only the folders that show neither people nor dolls.
STAMPS = "tuxpaint-stamps-default"
OBJECTS = (
    "animals",
    "clothes/hats",
    "food",
    "hobbies",
    "household",
    "plants",
    "space/moon",
    "space/planets",
    "sports",
    "vehicles",
)
NO_OBJECTS = ("/apes/", "/cartoon/", "/toys/", "_mirror", "_flip")


def reduced(file: Path, longest_px: int, mode: str) -> Image.Image:
    """The picture, reduced to at most `longest_px` a side."""
    with Image.open(file) as picture:
        converted = picture.convert(mode)
    converted.thumbnail((longest_px, longest_px), Image.Resampling.LANCZOS)
    return converted


def fetch_packages(folder: Path) -> None:
    """Download and unpack the packages, each to `folder/<package>`."""
    packages = sorted({*PHOTOS, *SCENES, *MORE_SCENES, GCOMPRIS, STAMPS})
    subprocess.run(["apt-get", "download", *packages], cwd=folder, check=True)
    for package in packages:
        (archive,) = folder.glob(f"{package}_*.deb")
        subprocess.run(["dpkg-deb", "-x", archive, folder / package], check=True)


def fetch_samples(folder: Path) -> Path:
    """Install scikit-image into `folder`; returns the folder of its samples."""
    target = folder / "scikit-image"
    install = ("uv", "pip", "install", "--no-deps", "--target", target, "scikit-image==0.26.0")
    subprocess.run(install, check=True)
    return target / "skimage/data"


def write_photos(fetched: Path, samples: Path, data: Path) -> None:
    """Write the upscaler's photographs."""
    for package, beginnings in PHOTOS.items():
        share = fetched / package / "usr/share"
        for file in (file for start in beginnings for file in sorted(share.glob(f"{start}*"))):
            name = "-".join(file.relative_to(share).with_suffix("").parts[1:])
            reduced(file, PHOTO_PX, "RGB").save(data / "photos" / f"{name}.png")
    for name in SAMPLES:
        picture = reduced(samples / name, PHOTO_PX, "RGB")
        picture.save(data / "photos-held-out" / f"{Path(name).stem}.png")


def fingerprint(picture: Image.Image) -> bytes:
    """The same for one picture at several sizes: where the rows of a thumbnail get brighter."""
    small = np.asarray(picture.convert("L").resize((9, 8), Image.Resampling.BOX))
    return bytes(np.greater(small[:, 1:], small[:, :-1]).tobytes())


def scene_files(folder: Path, beginnings: tuple[str, ...] = ("",)) -> Iterator[Path]:
    """The pictures in a folder that can be scenes and whose paths begin like this."""
    for file in sorted(folder.rglob("*")):
        path = file.relative_to(folder).as_posix()
        named = path.startswith(beginnings) and file.suffix.lower() in SCENE_SUFFIXES
        if named and not any(word in path.lower() for word in NO_SCENES):
            yield file


def unpack_activities(package: Path, out: Path) -> None:
    """Unpack the pictures from GCompris' Qt resource files."""
    for activity in ACTIVITIES:
        rcc = package / "usr/share/gcompris-qt/rcc" / f"{activity}.rcc"
        for path, content in read_resources(rcc.read_bytes()):
            file = out / path.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)


def write_scenes(files: Iterable[Path], out: Path) -> None:
    """Write each picture once, numbered; the numbers decide which are held out."""
    seen: set[bytes] = set()
    for file in files:
        picture = reduced(file, SCENE_PX, "RGB")
        mark = fingerprint(picture)
        if min(picture.size) >= SMALLEST_SCENE_PX and mark not in seen:
            seen.add(mark)
            picture.save(out / f"{len(seen):04d}-{file.stem}.jpg", quality=92)


def write_objects(stamps: Path, out: Path) -> None:
    """Write the stamps that show no face."""
    for file in (file for folder in OBJECTS for file in sorted((stamps / folder).rglob("*.png"))):
        path = file.relative_to(stamps)
        if not any(word in path.as_posix() for word in NO_OBJECTS):
            name = "-".join(path.with_suffix("").parts)
            reduced(file, OBJECT_PX, "RGBA").save(out / f"{name}.png")


def main() -> None:
    """Fill the four folders."""
    parser = argparse.ArgumentParser(
        prog="python -m training.photos", description="Download pictures without people."
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="folder to write photos/ and photos-held-out/ to"
    )
    parser.add_argument(
        "--work-dir",
        type=Path,
        default=Path("build/training"),
        help="folder to write scenes/ and objects/ to",
    )
    options = parser.parse_args()
    photos = [options.data / name for name in ("photos", "photos-held-out")]
    scenes, objects = (options.work_dir / name for name in ("scenes", "objects"))
    for folder in (*photos, scenes, objects):
        folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        fetched = Path(temporary)
        fetch_packages(fetched)
        samples = fetch_samples(fetched)
        write_photos(fetched, samples, options.data)
        activities = fetched / "activities"
        unpack_activities(fetched / GCOMPRIS, activities)
        whole = [samples, *(fetched / name for name in SCENES), activities]
        files = [file for folder in whole for file in scene_files(folder)]
        for package, beginnings in MORE_SCENES.items():
            files += scene_files(fetched / package / "usr/share", beginnings)
        write_scenes(files, scenes)
        write_objects(fetched / STAMPS / "usr/share/tuxpaint/stamps", objects)
    for folder in (*photos, scenes, objects):
        print(f"{len(list(folder.iterdir()))} pictures in {folder}", flush=True)


if __name__ == "__main__":
    main()
