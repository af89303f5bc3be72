"""The HTTP process stays light."""

import subprocess
import sys

HEAVY = ("torch", "torchvision", "diffusers", "transformers", "ultralytics", "cv2", "spandrel")


def test_the_application_imports_no_model_library():
    program = (
        "import sys, server.api.app, server.cli.serving\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
