"""What the measures need beyond the server: the optional extra `eval`."""

from importlib.util import find_spec

from server.errors import OperatorError

_DISTRIBUTIONS = {
    "dlib": "dlib-bin",
    "face_recognition_models": "face-recognition-models",
    "piq": "piq",
    "skimage": "scikit-image",
}


def require(*modules: str) -> None:
    """See that these packages of the extra are installed.

    Raises:
        OperatorError: one is not.
    """
    missing = [_DISTRIBUTIONS[module] for module in modules if find_spec(module) is None]
    if missing:
        raise OperatorError(
            f"Not installed: {', '.join(missing)}. Install the extra face-detailer[eval]."
        )
