"""SDXL-layout networks, and the denoise loop over them."""
