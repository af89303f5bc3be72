"""Where a profile lies, and whether its weights are there, before anything is loaded."""

from pathlib import Path

from pipeline.errors import WeightsError
from server.errors import OperatorError
from weights.manifest import FETCHED, profile_folder
from weights.sources import absent, chosen, downloads


class WeightsMissing(OperatorError):
    """Files of a fetched profile are not there."""


def profile_path(profile: str, data_dir: Path) -> Path:
    """What `pipeline.loading` reads: the folder of a profile with a name, or its own file."""
    return Path(profile) if profile.endswith(".toml") else profile_folder(profile, data_dir)


def check_weights(profile: str, data_dir: Path) -> None:
    """See that a fetched profile was pulled; nothing is read.

    Args:
        profile: a profile's name, not "auto", or a profile file.
        data_dir: below which fetched profiles lie.

    Raises:
        WeightsMissing: it was not, or not to the end; the text says what to run.
    """
    if profile not in FETCHED:
        return
    folder = profile_folder(profile, data_dir)
    # `pull` puts it there last. What lacks beside it, the loaders say: a profile.toml that somebody
    # has changed may need less than `pull` fetches.
    if (folder / "profile.toml").is_file():
        return
    wanted = chosen(downloads(profile), [])
    raise WeightsMissing(
        f"The weights of the profile {profile} are not complete in {folder}: "
        f"{len(absent(wanted, folder))} of {len(wanted)} files are missing. "
        f"Run `face-detailer weights pull --profile {profile}`."
    )


def with_remedy(error: WeightsError, profile: str) -> str:
    """What a loader says, and what mends it."""
    if profile not in FETCHED:
        return str(error)
    return (
        f"{error}. `face-detailer weights verify --profile {profile}` says what is wrong, and "
        f"`face-detailer weights pull --profile {profile}` mends it."
    )
