"""cordon bench: what system calls and programs cost natively, in Cordon and in its peers, in one interleaved run."""
