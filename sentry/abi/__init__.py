"""Linux constants and struct layouts; imports nothing."""
