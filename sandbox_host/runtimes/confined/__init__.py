"""Programs without namespaces: Landlock, seccomp and limits."""
