"""9P2000.L: message numbers (const) and the codec (wire)."""
