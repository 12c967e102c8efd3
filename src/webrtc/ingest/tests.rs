//! Sessions against the stack's own client, in memory.
