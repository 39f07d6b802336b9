"""Boxes that are sessions of Azure Container Apps."""
