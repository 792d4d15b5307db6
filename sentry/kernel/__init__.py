"""Tasks, thread groups, signals, waiting, time: the process side of the kernel."""
