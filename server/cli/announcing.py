"""What `serve` prints: its address at once, and a call to try as soon as it can be answered."""

import threading
import time
from typing import Final

from server.cli.addresses import url_of, url_to
from server.settings import Settings
from server.types import Engine, EngineState

_LOOK_EVERY_S: Final = 0.2
_CALL: Final = """Ready. Open {url}/ in a browser, or try it with a picture of your own:

  curl --fail-with-body -H "x-api-key: {key}" -F image=@photo.jpg -F prompt="detailed face" \\
      -F denoise=0.4 -F base64=false -o result.jpg {url}/v1/face-detailer
"""


def announce(settings: Settings, port: int, first_key: str | None) -> None:
    """Where the server listens, before it can answer; and the key that was made, if one was."""
    print(f"Listening on {url_of(settings.host, port)}", flush=True)
    if settings.public_base_url is not None:
        print(f"Clients reach it at {settings.public_base_url}", flush=True)
    if first_key is not None:
        print("The first API key, unlimited; it is shown only now:", first_key, flush=True)


def announce_when_ready(
    settings: Settings, port: int, first_key: str | None, engine: Engine
) -> None:
    """Print a call to paste once a worker is ready. Returns at once."""
    url = settings.public_base_url or url_to(settings.host, port)
    text = _CALL.format(url=url, key=first_key or "$KEY")

    def watch() -> None:
        while engine.state is EngineState.STARTING:
            time.sleep(_LOOK_EVERY_S)
        if engine.state is EngineState.READY:
            print(text, flush=True)

    threading.Thread(target=watch, daemon=True).start()
