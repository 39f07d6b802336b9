"""Containers of any engine: the box, its agent, its workspace, and the runtime that makes them."""
