"""Ways of running guest code: the contract (platform.py), what runs here (detect.py), and one module a platform."""
