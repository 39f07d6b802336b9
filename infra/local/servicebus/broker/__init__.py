"""Queues, topics and subscriptions."""
