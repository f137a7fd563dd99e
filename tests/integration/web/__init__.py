"""Integrations of web servers and frameworks, each with the real one."""
