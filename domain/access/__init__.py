"""Tenants: API keys and ceilings."""
