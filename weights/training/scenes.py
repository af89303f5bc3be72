r"""Gather openly licensed pictures without faces: backgrounds and negatives.

    apt-get download gnome-backgrounds mate-backgrounds plasma-workspace-wallpapers \
        lomiri-wallpapers-20.04 ukui-wallpapers
    for package in *.deb; do dpkg -x "$package" unpacked; done
    python -m weights.training.scenes unpacked .venv/lib/python3.11/site-packages/skimage/data

Writes each picture once, at most 1,024 px a side, to `build/training/scenes`. Licences: CC BY,
CC BY-SA, CC0 and GPL-2+ (the packages' own copyright files), and scikit-image's samples. The
trainers read the folder; nothing of it is shipped.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np

MAX_SIDE_PX = 1024
MIN_SIDE_PX = 256
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
# Pictures of real people, which nothing here is trained on, and thumbnails.
LEFT_OUT = ("astronaut", "camera", "lfw", "screenshot", "preview")


def fingerprint(bgr: cv2.typing.MatLike) -> bytes:
    """The same for one picture at several sizes: where a thumbnail's rows grow brighter."""
    small = cv2.resize(cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY), (9, 8), interpolation=cv2.INTER_AREA)
    return bytes(np.greater(small[:, 1:], small[:, :-1]).tobytes())


def main() -> None:
    """Collect, shrink, write."""
    parser = argparse.ArgumentParser(
        prog="python -m weights.training.scenes", description="Gather backgrounds."
    )
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=Path("build/training/scenes"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    files = sorted(
        file
        for folder in options.folders
        for file in folder.rglob("*")
        if file.suffix.lower() in SUFFIXES
        and not any(word in file.as_posix().lower() for word in LEFT_OUT)
    )
    seen: set[bytes] = set()
    for file in files:
        bgr = cv2.imread(str(file), cv2.IMREAD_COLOR)
        if bgr is None or min(bgr.shape[:2]) < MIN_SIDE_PX or fingerprint(bgr) in seen:
            continue
        seen.add(fingerprint(bgr))
        scale = min(1.0, MAX_SIDE_PX / max(bgr.shape[:2]))
        small = cv2.resize(bgr, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        cv2.imwrite(
            str(options.out / f"{len(seen):04d}-{file.stem}.jpg"),
            small,
            [cv2.IMWRITE_JPEG_QUALITY, 92],
        )
    print(f"{len(seen)} of {len(files)} pictures in {options.out}")


if __name__ == "__main__":
    main()
