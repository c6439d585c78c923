//! What a file system does, in kernel words, by inode number; knows nothing of FUSE.
