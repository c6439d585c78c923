//! The bbolt file format: reading a committed tree, writing the next one, proving one sound.
