"""Ways of running guest code: the contract (platform.py), what works here (detect.py), the platforms."""
