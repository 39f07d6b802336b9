"""What a run is: job, output, artifacts, verdict."""
