"""Integrations of HTTP clients, each with the real library and a real server."""
