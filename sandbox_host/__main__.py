"""``python -m sandbox_host``: run untrusted programs for the queue ``sandbox-jobs``."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Sequence

_HELP = """\
Takes jobs from Azure Service Bus, runs each program in a fresh sandbox without network access, and
sends the results back. One JSON line on stdout has the URL of /health; logs go to stderr.

settings (environment variables):
  ServiceBusConnection                 connection string of the namespace; or, instead,
  ServiceBusConnection__fullyQualifiedNamespace
                                       its host name, to sign in with an Azure identity
  QLP_SANDBOX_JOBS_QUEUE               sandbox-jobs
  QLP_SANDBOX_RESULTS_QUEUE            sandbox-results
  QLP_SANDBOX_RUNTIMES                 docker,bubblewrap: the first that works is used. Others:
                                       sessions (Azure Container Apps dynamic sessions) and
                                       confined (for containers without privileges; weaker)
  QLP_SANDBOX_IMAGES                   qlp-sandbox-{language}:1: images for the docker runtime
                                       (build them with python -m sandbox_host.images.build)
  QLP_SANDBOX_ENGINE_RUNTIME           OCI runtime the Docker engine uses, such as runsc (gVisor)
  QLP_SANDBOX_SESSIONS_ENDPOINT        management endpoint of a PythonLTS session pool
  QLP_SANDBOX_APP_URL                  base URL of the application, without /api; needed for live
                                       output, kills and large artifacts
  QLP_SANDBOX_CONCURRENCY              programs that run at once; default: number of CPUs
  QLP_SANDBOX_MEMORY_BYTES             memory for all running programs together; default: three
                                       quarters of this machine's or container's memory, less
                                       the pool's
  QLP_SANDBOX_POOL_MEMORY_BYTES        memory for all boxes that wait for a program; 0 keeps no
                                       box waiting; default: 268435456, less on small machines
  QLP_SANDBOX_CANARY_SECONDS           300: a runtime idle for this long runs its canary again
  QLP_SANDBOX_DRAIN_SECONDS            20: how long running programs may continue after SIGTERM
  QLP_SANDBOX_HEALTH_HOST              127.0.0.1
  QLP_SANDBOX_HEALTH_PORT              8081; 0 takes any free port

signals: SIGTERM or SIGINT stops receiving jobs and drains; a second one exits at once.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status: 0 after a drain, 2 for wrong settings, else 1."""
    argparse.ArgumentParser(
        prog="python -m sandbox_host",
        description=_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args(arguments)
    # Until there is something to drain, a signal ends the process at once.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from domain.contracts.redaction import guard
    from sandbox_host.logs import configure
    from sandbox_host.settings import InvalidSettings, Settings

    configure()
    guard(os.environ)
    try:
        settings = Settings.from_environment(os.environ)
    except InvalidSettings as error:
        sys.stderr.write(f"sandbox host: invalid setting: {error}\n")
        return 2
    # Imported late, so that --help and a wrong setting answer at once.
    from sandbox_host.host.serve import serve

    try:
        asyncio.run(serve(settings))
    except OSError as error:
        sys.stderr.write(f"sandbox host: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
