"""C below the Python kernel; `native._core` is the cffi extension built by build_native.py."""
