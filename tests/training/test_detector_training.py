"""What the detector learns from: boxes that fit, negatives without a face, a split that holds."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from training import labelled, photos
from training.composites import Composer
from training.labelled import PORTRAIT_PX, Pixels, Portrait
from training.negatives import Negatives

GREY: Pixels = np.full((300, 400, 3), 60, np.uint8)


def red_square(side_px: int) -> Pixels:
    thing = np.zeros((side_px, side_px, 4), np.uint8)
    thing[..., 0], thing[..., 3] = 250, 255
    return thing


def bright_portrait() -> Portrait:
    """A face of one green on grey."""
    rgb = np.full((PORTRAIT_PX, PORTRAIT_PX, 3), 60, np.uint8)
    angles = np.linspace(0, 2 * np.pi, 36, endpoint=False)
    oval = np.stack([128 + 40 * np.cos(angles), 120 + 55 * np.sin(angles)], axis=1)
    cv2.fillPoly(rgb, [np.round(oval).astype(np.int32)], (0, 250, 0))
    return Portrait(rgb, (oval.astype(np.float32),))


def greenness(rgb: Pixels) -> np.ndarray:
    return rgb[..., 1].astype(int) - np.maximum(rgb[..., 0], rgb[..., 2])


@pytest.mark.parametrize("side_px", [128, 320])
def test_every_box_holds_a_face(side_px: int) -> None:
    composer = Composer([bright_portrait()], Negatives([GREY], [], seed=1), seed=1)
    composer.damage = lambda rgb, _most_shrink=8.0: rgb  # type: ignore[method-assign]
    found = 0
    for _ in range(40):
        rgb, boxes = composer.draw(side_px)
        assert rgb.shape == (side_px, side_px, 3)
        for x0, y0, x1, y1 in boxes.round().astype(int):
            inside = greenness(rgb[y0:y1, x0:x1])
            if min(inside.shape) >= 16:
                assert (inside > 60).mean() > 0.6
                found += 1
    assert found > 20


def test_things_lie_in_scenes_at_every_size() -> None:
    negatives = Negatives([GREY], [red_square(100)], seed=0)
    shares = [(negatives.strewn(200)[..., 0] > 200).mean() for _ in range(40)]
    assert min(shares) < 0.01
    assert max(shares) > 0.2
    assert negatives.strewn(64).shape == (64, 64, 3)


def test_a_mistake_comes_back_as_a_close_up_and_nothing_else_does() -> None:
    negatives = Negatives([GREY], [], seed=0)
    picture = np.full((400, 400, 3), 60, np.uint8)
    picture[180:220, 100:140] = (250, 0, 0)
    for _ in range(20):
        negatives.remember(picture, np.array([100, 180, 140, 220], np.float32))
    # Blotches may be red too, but not quite this one.
    reds = [
        (drawn[..., 0] > 245) & (drawn[..., 1:] < 5).all(axis=-1)
        for drawn in map(negatives.draw, [128] * 60)
    ]
    shown = [red for red in reds if red.mean() > 0.04]
    assert len(shown) > 10
    for red in shown:
        assert red[48:80, 48:80].mean() > 0.8  # in the middle, whatever the turn
        assert red.mean() < 0.65  # with something around it


def test_no_scene_and_no_thing_is_on_both_sides_of_the_split(tmp_path: Path) -> None:
    for name, mode, suffix in (("scenes", "RGB", "jpg"), ("objects", "RGBA", "png")):
        (tmp_path / name).mkdir()
        for index in range(20):
            picture = Image.new(mode, (20 + index, 20))
            picture.save(tmp_path / name / f"{index:02d}.{suffix}")
    for load in (labelled.load_scenes, labelled.load_objects):
        widths = [
            {picture.shape[1] for picture in load(tmp_path, validation=side)}
            for side in (False, True)
        ]
        assert [len(side) for side in widths] == [18, 2]
        assert not widths[0] & widths[1]


def test_without_pictures_the_command_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"run python -m training\.photos first"):
        labelled.load_scenes(tmp_path, validation=False)


def test_what_is_clear_in_a_thing_stays_the_background(tmp_path: Path) -> None:
    (tmp_path / "objects").mkdir()
    for index in range(2):
        half = np.full((40, 40, 4), 255, np.uint8)
        half[:, :20, 3] = 0
        Image.fromarray(half).save(tmp_path / "objects" / f"{index}.png")
    (thing,) = labelled.load_objects(tmp_path, validation=False)
    assert (thing[:, :20] == 0).all()
    canvas = Negatives([np.zeros_like(GREY)], [thing], seed=3).strewn(200)
    assert 0 < (canvas > 200).mean() < 0.5


def test_scenes_are_written_once_each_and_without_people(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    out.mkdir()
    (folder / "sizes").mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    picture = Image.fromarray(noise)
    picture.resize((900, 800), Image.Resampling.BICUBIC).save(folder / "hill.png")
    picture.resize((450, 400), Image.Resampling.BICUBIC).save(folder / "sizes" / "hill-small.png")
    picture.transpose(Image.Transpose.ROTATE_180).resize((1600, 1200)).save(folder / "lake.png")
    picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM).resize((200, 200)).save(folder / "dot.png")
    picture.transpose(Image.Transpose.ROTATE_90).resize((600, 600)).save(folder / "astronaut.png")
    picture.transpose(Image.Transpose.ROTATE_270).resize((600, 600)).save(folder / "toy.png")
    photos.write_scenes(photos.scene_files(folder, ("astro", "dot", "hill", "lake", "sizes/")), out)
    assert sorted(file.name for file in out.iterdir()) == ["0001-hill.jpg", "0002-lake.jpg"]
    with Image.open(out / "0002-lake.jpg") as lake:
        assert max(lake.size) == photos.SCENE_PX


def test_of_the_stamps_only_things_are_kept(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    names = ("food/fruit/apple", "people/doll", "animals/apes/gorilla", "animals/cats/cartoon/tom")
    for name in names:
        file = tmp_path / "stamps" / f"{name}.png"
        file.parent.mkdir(parents=True)
        Image.new("RGBA", (600, 300)).save(file)
    photos.write_objects(tmp_path / "stamps", out)
    assert [file.name for file in out.iterdir()] == ["food-fruit-apple.png"]
    with Image.open(out / "food-fruit-apple.png") as apple:
        assert apple.size == (256, 128)
