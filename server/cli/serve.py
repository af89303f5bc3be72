"""`face-detailer serve`."""

from typing import Annotated

import typer

from server.cli.options import Profile

Devices = Annotated[
    list[str] | None,
    typer.Option("--device", help="cpu, cuda:0, …; repeat for several. Default: all GPUs."),
]


EXAMPLES = """Examples:

\b
  face-detailer serve                                   auto: sdxl on a GPU, else tiny
  face-detailer serve --profile sdxl --device cuda:0 --device cuda:1
  face-detailer serve --host 0.0.0.0 --port 8080"""


def serve(
    profile: Profile = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0: any free one.")] = None,
    device: Devices = None,
) -> None:
    """Serve the HTTP API. Everything else is set by FACE_DETAILER_… variables: docs/settings.md."""
    from server.cli.serving import serve_until_stopped
    from server.cli.variables import warn_of_unknown_variables
    from server.settings import read_settings

    warn_of_unknown_variables()
    devices = ",".join(device) if device else None
    serve_until_stopped(read_settings(profile=profile, host=host, port=port, devices=devices))
