"""The gofer: the only process of a sandbox that opens host files. Imports nothing of the sentry."""
