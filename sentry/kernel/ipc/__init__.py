"""System V IPC (sysvipc(7)): shared memory, semaphores, message queues of an IPC namespace."""
