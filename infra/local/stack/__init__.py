"""Runs the whole system on one machine: starts it, takes the tour, serves, stops it."""
