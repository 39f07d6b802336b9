"""Computes read models anew beside the live ones, and exchanges them."""
