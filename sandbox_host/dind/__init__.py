"""The sandbox host with its own Docker engine, in one privileged container."""
