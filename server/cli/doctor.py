"""`face-detailer doctor`: whether this machine can do what the settings ask for."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.options import Device, Profile
from server.cli.texts import printable

if TYPE_CHECKING:
    from server.cli.findings import Finding


def doctor(
    profile: Profile = None,
    device: Device = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a list of objects in place of lines.")
    ] = False,
) -> None:
    """See whether everything is there: Python, torch, GPU, memory, disk, weights, port, data
    folder, keys, clock and settings. What is not comes with what helps. Exit code 1 if something
    will not work; warnings do not count.
    """
    from dataclasses import asdict

    from server.cli.checks import examine

    findings = examine(profile, device)
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        _print(findings)
    failed = sum(finding.state == "failed" for finding in findings)
    raise typer.Exit(int(failed > 0))


def _print(findings: "list[Finding]") -> None:
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        print(f"{finding.state:9}{finding.name:{width + 2}}{printable(finding.text)}")
        if finding.remedy:
            print(f"{'':{width + 11}}→ {printable(finding.remedy)}")
