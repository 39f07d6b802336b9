"""The contract between the application and the sandbox host."""
