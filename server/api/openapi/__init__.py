"""The API's description: an OpenAPI document, made from the contract's tables, and a page of it."""

from server.api.openapi.page import Description

__all__ = ["Description"]
