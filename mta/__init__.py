"""Takes mail in and hands mail over: the doors, the spool, composing, signing, the queue."""
