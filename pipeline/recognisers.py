"""What the identity gate needs of a profile, and of this machine."""

from importlib.util import find_spec
from typing import Final

from pipeline.config import IdentityConfig, Profile
from pipeline.errors import InvalidProfile, WeightsError

_DLIB_PACKAGES: Final = ("dlib", "face_recognition_models")


def find_recogniser(profile: Profile) -> IdentityConfig:
    """The profile's recogniser, whose files and packages are here; none of them is read.

    Raises:
        InvalidProfile: the profile names none.
        WeightsError: a file or a package is missing.
    """
    config = profile.identity
    if config is None:
        raise InvalidProfile(
            f"the profile {profile.name} has no [identity] table, which the identity gate needs"
        )
    files = [file for file in (config.weights, config.landmarks) if file is not None]
    missing = [
        str(profile.folder / file) for file in files if not (profile.folder / file).is_file()
    ]
    if missing:
        raise WeightsError(f"recogniser weights are missing: {', '.join(missing)}")
    if config.recogniser == "dlib" and None in map(find_spec, _DLIB_PACKAGES):
        raise WeightsError(
            "the recogniser dlib is not installed: pip install 'face-detailer[identity]'"
        )
    return config
