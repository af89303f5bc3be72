"""The whole job on one machine: start the server, post a damaged photograph, look at the result.

    python examples/demo.py --out out

Run by `make demo`. Writes `input.png`, `result.png` and `side-by-side.png`.
"""

import argparse
import base64
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests
from PIL import Image, ImageDraw, ImageFont

FOLDER = Path(__file__).resolve().parent
PICTURE = FOLDER / "astronaut-damaged.jpg"
# The console script of the environment that runs this file.
FACE_DETAILER = Path(sys.executable).parent / "face-detailer"
READY_S = 300
STOP_S = 30
LOG_TAIL_LINES = 40
CREDITS = "10"

# Where the face is in PICTURE (x0, y0, x1, y1), for the close-up.
FACE_BOX = (150, 50, 294, 194)
PANEL_PX = 640
LABEL_PX = 36


class DemoError(Exception):
    """What went wrong, as a sentence."""


def free_port() -> int:
    """A TCP port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def create_key(environment: dict[str, str]) -> str:
    """An API key with a few credits: the last word of what the command prints."""
    done = subprocess.run(
        [FACE_DETAILER, "keys", "create", "--credits", CREDITS],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise DemoError(f"no key could be made:\n{done.stdout}{done.stderr}")
    return done.stdout.split()[-1]


def wait_until_ready(base: str, server: subprocess.Popen[bytes]) -> None:
    """Return as soon as `/ready` answers 200."""
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise DemoError(f"the server ended with exit code {server.returncode}")
        try:
            if requests.get(f"{base}/ready", timeout=5).status_code == requests.codes.ok:
                return
        except requests.ConnectionError:
            pass
        time.sleep(0.2)
    raise DemoError(f"the server was not ready within {READY_S} s")


def print_tail(log: Path) -> None:
    """The end of the server's log, without our own asking for `/ready`."""
    lines = log.read_text(errors="replace").splitlines()
    telling = [line for line in lines if "/ready" not in line]
    print("The end of the server's log:", *telling[-LOG_TAIL_LINES:], sep="\n", file=sys.stderr)


@contextmanager
def running_server(data_dir: Path) -> Iterator[tuple[str, str]]:
    """Serve the tiny profile; yields the base URL and a key. Stops the server whatever happens."""
    environment = {**os.environ, "FACE_DETAILER_DATA_DIR": str(data_dir)}
    key = create_key(environment)
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    log = data_dir / "server.log"
    command = [FACE_DETAILER, "serve", "--profile", "tiny", "--port", str(port)]
    with (
        log.open("wb") as stream,
        subprocess.Popen(command, env=environment, stdout=stream, stderr=stream) as server,
    ):
        try:
            wait_until_ready(base, server)
            yield base, key
        except BaseException:
            print_tail(log)
            raise
        finally:
            server.terminate()
            try:
                server.wait(STOP_S)
            except subprocess.TimeoutExpired:
                server.kill()


def image_file_to_base64(image_path: Path) -> str:
    """The model card's helper."""
    with image_path.open("rb") as f:
        image_data = f.read()
    return base64.b64encode(image_data).decode("utf-8")


def detail(base: str, api_key: str) -> requests.Response:
    """The model card's snippet: only the host differs."""
    url = f"{base}/v1/face-detailer"
    data = {
        "image": image_file_to_base64(PICTURE),
        "prompt": "photo of a smiling woman, detailed face, sharp focus",
        "negative_prompt": "bad quality, painting, blur",
        "samples": 1,
        "num_inference_steps": 20,
        "guidance_scale": 6,
        "seed": 12467,
        "denoise": 0.4,
        "image_format": "png",
        "image_quality": 95,
        "base64": False,
    }
    return requests.post(url, json=data, headers={"x-api-key": api_key}, timeout=180)


def panel(picture: Image.Image, label: str) -> Image.Image:
    """The picture on a square of PANEL_PX under its label."""
    framed = Image.new("RGB", (PANEL_PX, PANEL_PX + LABEL_PX), "white")
    font = ImageFont.load_default(LABEL_PX * 0.6)
    ImageDraw.Draw(framed).text((8, 6), label, fill="black", font=font)
    square = picture.resize((PANEL_PX, PANEL_PX), Image.Resampling.BICUBIC)
    framed.paste(square, (0, LABEL_PX))
    return framed


def side_by_side(before: Image.Image, after: Image.Image) -> Image.Image:
    """Both pictures whole, and below them their faces."""
    factor = after.width / before.width
    left, top, right, bottom = (round(edge * factor) for edge in FACE_BOX)
    panels = (
        panel(before, f"input, {before.width} x {before.height} px"),
        panel(after, f"result, {after.width} x {after.height} px"),
        panel(before.crop(FACE_BOX), "input, the face"),
        panel(after.crop((left, top, right, bottom)), "result, the face"),
    )
    width, height = panels[0].size
    sheet = Image.new("RGB", (2 * width, 2 * height))
    for index, part in enumerate(panels):
        sheet.paste(part, (index % 2 * width, index // 2 * height))
    return sheet


def run(out: Path) -> None:
    """Serve, send, write, tell."""
    out.mkdir(parents=True, exist_ok=True)
    data_dir = Path(tempfile.mkdtemp(prefix="face-detailer-demo-"))
    try:
        started = time.monotonic()
        with running_server(data_dir) as (base, key):
            ready_s = time.monotonic() - started
            started = time.monotonic()
            response = detail(base, key)
            seconds = time.monotonic() - started
            if response.status_code != requests.codes.ok:
                raise DemoError(f"the server answered {response.status_code}: {response.text}")
    finally:
        shutil.rmtree(data_dir, ignore_errors=True)
    result_file = out / "result.png"
    result_file.write_bytes(response.content)
    with Image.open(PICTURE) as picture, Image.open(result_file) as result:
        before, after = picture.convert("RGB"), result.convert("RGB")
    before.save(out / "input.png")
    side_by_side(before, after).save(out / "side-by-side.png")
    for name in ("input.png", "result.png", "side-by-side.png"):
        print(f"wrote {out / name}")
    print(f"server ready after {ready_s:.1f} s, request answered in {seconds:.1f} s")
    print(f"credits left: {response.headers['x-remaining-credits']}")


def main() -> None:
    """The command; exit code 1 with a sentence where something failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the pictures")
    # A terminated demo, too, leaves no server behind: SystemExit passes through every `finally`.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    # Loopback needs no proxy, whatever the environment says.
    os.environ["NO_PROXY"] = "127.0.0.1"
    try:
        run(parser.parse_args().out)
    except (DemoError, requests.RequestException) as error:
        sys.exit(f"demo failed: {error}")


if __name__ == "__main__":
    main()
