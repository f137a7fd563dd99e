"""Integrations: one file or folder for each library; import the one that you need by its name."""
