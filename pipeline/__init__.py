"""One picture in, one picture out: find faces, mask, repaint in two passes, blend in, upscale."""
