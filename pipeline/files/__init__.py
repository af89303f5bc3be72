"""Picture files that Pillow cannot read as they are, one format a module."""
