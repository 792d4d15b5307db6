"""Mounts, dentries, inodes, open files, path walk: what every file system shares."""
