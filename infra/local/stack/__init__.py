"""The whole system on one machine: starts it, shows it, serves it, stops it."""
