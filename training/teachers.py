"""Labels the portraits with two teachers, and unpacks the detector's initial weights.

    uv venv build/teachers
    uv pip install --python build/teachers -r training/requirements-teachers.txt
    build/teachers/bin/python training/teachers.py --data DIR

It runs in an environment of its own (see the requirements file) and imports nothing from this
project. It writes to `build/training/labels`:

* `faces.json`: the faces of each portrait. `oval`: 36 points of the face's outline (MediaPipe's
  face mesh, Apache-2.0; empty if the mesh found none). `box`: x0, y0, x1, y1 in pixels, of the oval
  or else from NudeNet (AGPL-3.0), converted to the oval's convention.
* `nudenet.safetensors`: the convolutions of NudeNet's 320n.onnx, named as in ultralytics' yolov8n
  with folded batch norms.
"""

import argparse
import importlib.util
import json
from pathlib import Path
from typing import Any

import cv2
import mediapipe
import numpy as np
import onnx
import onnxruntime
from mediapipe.python.solutions import face_mesh
from numpy.typing import NDArray
from safetensors.numpy import save_file

FACE_CLASSES = (1, 12)  # NudeNet's FACE_FEMALE and FACE_MALE
NUDENET_PX = 320
NUDENET_THRESHOLD = 0.35
# The share of the picture added on each side, tried in this order until a mesh is found.
PADDINGS = (0.0, 0.25, 0.6)

Points = NDArray[np.float32]
Box = list[float]


def outline_order() -> list[int]:
    """The landmark numbers of the face oval, in order around it."""
    following = dict(face_mesh.FACEMESH_FACE_OVAL)
    order = [10]
    while following[order[-1]] != order[0]:
        order.append(following[order[-1]])
    return order


def find_ovals(mesh: face_mesh.FaceMesh, rgb: NDArray[np.uint8], order: list[int]) -> list[Points]:
    """The outline of every face that the mesh finds: (36, 2) each, in pixels of `rgb`."""
    height, width = rgb.shape[:2]
    for padding in PADDINGS:
        dx, dy = int(width * padding), int(height * padding)
        padded = cv2.copyMakeBorder(rgb, dy, dy, dx, dx, cv2.BORDER_REPLICATE)
        found = mesh.process(padded).multi_face_landmarks
        if found:
            size = np.array([padded.shape[1], padded.shape[0]], np.float32)
            marks = [
                np.array([(p.x, p.y) for p in face.landmark], np.float32) * size for face in found
            ]
            return [(points - (dx, dy)).astype(np.float32)[order] for points in marks]
    return []


def find_boxes(session: onnxruntime.InferenceSession, rgb: NDArray[np.uint8]) -> list[Box]:
    """NudeNet's face boxes, best first, after non-maximum suppression."""
    side = max(rgb.shape[:2])
    square = cv2.copyMakeBorder(
        rgb, 0, side - rgb.shape[0], 0, side - rgb.shape[1], cv2.BORDER_CONSTANT
    )
    blob = cv2.dnn.blobFromImage(square, 1 / 255.0, (NUDENET_PX, NUDENET_PX))
    (output,) = session.run(None, {"images": blob})
    rows = output[0].T
    scores = rows[:, [4 + index for index in FACE_CLASSES]].max(axis=1)
    centre, size = rows[:, :2], rows[:, 2:4]
    corners = np.concatenate([centre - size / 2, size], axis=1) * side / NUDENET_PX
    kept = cv2.dnn.NMSBoxes(corners.tolist(), scores.tolist(), NUDENET_THRESHOLD, 0.4)
    return [[x, y, x + w, y + h] for x, y, w, h in corners[np.array(kept, int).ravel()].tolist()]


def overlap(a: Box, b: Box) -> float:
    """Intersection over union."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / (sum(areas) - width * height)


def box_around(oval: Points) -> Box:
    """The oval's bounding box."""
    return [float(value) for value in (*oval.min(axis=0), *oval.max(axis=0))]


def convention_shift(pairs: list[tuple[Box, Box]]) -> NDArray[np.float64]:
    """Median of (oval's box − NudeNet's box), each side as a share of NudeNet's box size."""
    shares = []
    for oval, nudenet in pairs:
        size = [nudenet[2] - nudenet[0], nudenet[3] - nudenet[1]] * 2
        shares.append([(o - n) / s for o, n, s in zip(oval, nudenet, size, strict=True)])
    return np.asarray(np.median(np.array(shares), axis=0), np.float64)


def label(
    files: list[Path], session: onnxruntime.InferenceSession
) -> dict[str, list[dict[str, Any]]]:
    """The faces of each picture, by file name."""
    order = outline_order()
    found: dict[str, tuple[list[Points], list[Box]]] = {}
    with face_mesh.FaceMesh(
        static_image_mode=True, max_num_faces=4, min_detection_confidence=0.4
    ) as mesh:
        for file in files:
            rgb = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)
            found[file.name] = find_ovals(mesh, rgb, order), find_boxes(session, rgb)
    pairs = [
        (box_around(oval), box)
        for ovals, boxes in found.values()
        for oval in ovals
        for box in boxes
        if overlap(box_around(oval), box) > 0.5
    ]
    shift = convention_shift(pairs)
    print(f"NudeNet's boxes are shifted by {np.round(shift, 3).tolist()} of their size", flush=True)
    labels: dict[str, list[dict[str, Any]]] = {}
    for name, (ovals, boxes) in found.items():
        faces = [{"oval": oval.round(2).tolist(), "box": box_around(oval)} for oval in ovals]
        for box in boxes:
            size = [box[2] - box[0], box[3] - box[1]] * 2
            moved = [value + s * extent for value, s, extent in zip(box, shift, size, strict=True)]
            if all(overlap(moved, face["box"]) < 0.3 for face in faces):
                faces.append({"oval": [], "box": moved})
        labels[name] = faces
    return labels


def nudenet_file() -> Path:
    """The detector in the installed package, which is not imported."""
    spec = importlib.util.find_spec("nudenet")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("nudenet is not installed: see requirements-teachers.txt")
    return Path(spec.origin).parent / "320n.onnx"


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(description="Label the portraits with the teachers.")
    parser.add_argument("--data", type=Path, required=True, help="folder with faces/*.jpg")
    parser.add_argument("--out", type=Path, default=Path("build/training/labels"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    graph = onnx.load(str(nudenet_file())).graph
    convolutions = {
        tensor.name: onnx.numpy_helper.to_array(tensor)
        for tensor in graph.initializer
        if tensor.name.startswith("model.") and tensor.name.endswith((".weight", ".bias"))
    }
    save_file(convolutions, options.out / "nudenet.safetensors")
    session = onnxruntime.InferenceSession(str(nudenet_file()), providers=["CPUExecutionProvider"])
    labels = label(sorted((options.data / "faces").glob("*.jpg")), session)
    (options.out / "faces.json").write_text(json.dumps(labels), encoding="utf-8")
    faces = [face for found in labels.values() for face in found]
    ovals = sum(bool(face["oval"]) for face in faces)
    empty = sum(not found for found in labels.values())
    print(
        f"mediapipe {mediapipe.__version__}: {len(faces)} faces, {ovals} ovals, "
        f"{empty} portraits without a face"
    )


if __name__ == "__main__":
    main()
