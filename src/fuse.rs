//! The kernel's requests handed to `vfs`, and the one table of errors to errno.
