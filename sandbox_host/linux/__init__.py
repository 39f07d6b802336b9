"""The kernel's part: cgroups, seccomp, users, mounts, pipes, processes, watchdog."""
