"""The sandbox host with a Docker engine of its own, in one privileged container."""
