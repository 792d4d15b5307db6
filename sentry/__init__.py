"""The application kernel."""
