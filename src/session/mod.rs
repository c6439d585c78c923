//! The life of one mount.
