"""The program: command line, settings, and the places where everything is put together."""
