"""Boxes that are made ready before they are needed."""
