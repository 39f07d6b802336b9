"""Boxes that are containers of this host's own, made with runc or crun."""
