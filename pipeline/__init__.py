"""One picture in, one picture out: find the faces, mask them, repaint each in two passes, blend them in, upscale."""
