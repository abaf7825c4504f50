"""The HTTP API from Python, without the rest of the application."""
