//! A journal in memory, beside a database in memory.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use boltfs::bolt::{Disk, Map};
use boltfs::vfs::JournalPlace;

use super::disk::MemDisk;

/// Where the journal is kept: a file that may be there or not.
#[derive(Clone, Default)]
pub struct Beside(Arc<Mutex<Option<Arc<MemDisk>>>>);

impl JournalPlace for Beside {
    fn create(&mut self) -> io::Result<Box<dyn Disk>> {
        let disk = Arc::<MemDisk>::default();
        *self.0.lock().unwrap() = Some(disk.clone());
        Ok(Box::new(Shared(disk)))
    }

    fn remove(&mut self) -> io::Result<()> {
        *self.0.lock().unwrap() = None;
        Ok(())
    }

    fn path(&self) -> &Path {
        Path::new("in memory")
    }
}

impl Beside {
    /// The file, while it is there.
    pub fn disk(&self) -> Option<Arc<MemDisk>> {
        self.0.lock().unwrap().clone()
    }
}

/// A disk that is looked at while it is written.
pub struct Shared(pub Arc<MemDisk>);

impl Disk for Shared {
    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buf, offset)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(buf, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn map(&self) -> io::Result<Map> {
        self.0.map()
    }
}
