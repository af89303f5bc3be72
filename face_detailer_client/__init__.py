"""A client of face-detailer servers: one call a picture, progress, and retries that pay once.

    from face_detailer_client import Client

    with Client("http://127.0.0.1:8000", key="SG_…") as client:
        client.detail("photo.jpg", prompt="detailed face").save("better.jpg")

Needs httpx and tenacity, and nothing else of face-detailer.
"""

from face_detailer_client.client import Client
from face_detailer_client.errors import (
    Cancelled,
    FaceDetailerError,
    InvalidRequest,
    NotEnoughCredits,
    Refused,
    RequestFailed,
    ServerFault,
    TimedOut,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    Unreachable,
)
from face_detailer_client.fields import DetailFields, DetectFields
from face_detailer_client.values import (
    Detections,
    Face,
    FaceIdentity,
    Faces,
    Picture,
    Progress,
    Result,
)

__all__ = [
    "Cancelled",
    "Client",
    "DetailFields",
    "DetectFields",
    "Detections",
    "Face",
    "FaceDetailerError",
    "FaceIdentity",
    "Faces",
    "InvalidRequest",
    "NotEnoughCredits",
    "Picture",
    "Progress",
    "Refused",
    "RequestFailed",
    "Result",
    "ServerFault",
    "TimedOut",
    "TooManyRequests",
    "Unauthorized",
    "Unavailable",
    "Unreachable",
]
