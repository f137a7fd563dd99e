"""What plugs into other libraries: one file for each, to be imported by its own name."""
