//! The databases, made from a seed by the real bbolt, and the same files in a tmpfs directory.

use super::mount::{Mount, run};
use boltfs::bolt::page::{FREELIST, HEADER, Header};
use boltfs::bolt::{DbFile, Disk, Meta, Snapshot};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The seed of everything.
const SEED: u32 = 5;

/// Where files lie: databases on a disk, their copies in a tmpfs directory that goes when this is dropped.
pub struct Place {
    dir: PathBuf,
    shm: PathBuf,
    /// Keys of the usual database.
    pub keys: u32,
    /// Keys of the large one.
    pub many: u32,
    /// Bytes of the large value.
    pub large: u64,
    /// Bytes of the sparse file.
    pub sparse: u64,
}

impl Place {
    pub fn new(dir: PathBuf, quick: bool) -> Place {
        let shm = PathBuf::from(format!("/dev/shm/boltfs-bench-{}", std::process::id()));
        fs::create_dir(&shm).expect("/dev/shm is a tmpfs that may be written");
        let tenth = if quick { 10 } else { 1 };
        Place {
            dir,
            shm,
            keys: 100_000 / tenth,
            many: 1_000_000 / tenth,
            large: (1 << 30) / u64::from(tenth),
            sparse: 8 << 30,
        }
    }

    /// A path in the tmpfs directory.
    pub fn shm(&self, name: &str) -> PathBuf {
        self.shm.join(name)
    }

    /// A path beside the databases.
    pub fn disk(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A program of the real bbolt.
    pub fn oracle(&self, operation: &str, file: &Path, spec: Option<serde_json::Value>) -> Vec<u8> {
        let mut command = Command::new(self.dir.join("oracle"));
        command.arg(operation).arg(file);
        if let Some(spec) = spec {
            let path = self.shm("spec.json");
            fs::write(&path, spec.to_string()).expect("a file can be written");
            command.arg(path);
        }
        run(&mut command)
    }

    /// A database of one bucket with `keys` keys, kept for the next run.
    pub fn database(&self, kind: &str, keys: u32, value: u32) -> PathBuf {
        let path = self.dir.join(format!("{kind}-{keys}-{value}-{SEED}.db"));
        if !path.exists() {
            eprintln!("making {}", path.display());
            let new = path.with_extension("new");
            let _ = fs::remove_file(&new);
            let spec =
                serde_json::json!({"keys": keys, "value": value, "kind": kind, "seed": SEED});
            self.oracle("create", &new, Some(spec));
            fs::rename(&new, &path).expect("a file can be renamed");
        }
        path
    }

    /// The usual database.
    pub fn usual(&self) -> PathBuf {
        self.database("random", self.keys, 200)
    }

    /// The large one: 536 MB.
    pub fn large(&self) -> PathBuf {
        self.database("random", self.many, 450)
    }

    /// The files of a database's bucket in the tmpfs directory.
    pub fn files(&self, database: &Path) -> PathBuf {
        let name = database.file_stem().expect("it has a name");
        let files = self.shm.join(name);
        if !files.exists() {
            eprintln!("copying {} to {}", database.display(), files.display());
            let mount = Mount::new(database, &["-r"]);
            run(Command::new("cp").arg("-r").arg(mount.bucket()).arg(&files));
        }
        files
    }

    /// A copy of a database to be changed, durable.
    pub fn copy(&self, database: &Path, to: &Path) {
        fs::copy(database, to).expect("a file can be copied");
        let file = File::open(to).expect("it is there");
        file.sync_all().expect("it can be made durable");
    }

    /// A file of `len` bytes in the tmpfs directory, of no meaning.
    pub fn blob(&self, len: u64) -> PathBuf {
        let path = self.shm.join("blob");
        if !path.exists() {
            let mut file = File::create(&path).expect("a file can be made");
            let mut state = u64::from(SEED);
            let mut chunk = vec![0u8; 1 << 20];
            let mut rest = len;
            while rest > 0 {
                for word in chunk.chunks_exact_mut(8) {
                    state = state
                        .wrapping_mul(6364136223846793005)
                        .wrapping_add(1442695040888963407);
                    word.copy_from_slice(&state.to_le_bytes());
                }
                let n = rest.min(chunk.len() as u64);
                file.write_all(&chunk[..n as usize]).expect("there is room");
                rest -= n;
            }
        }
        path
    }

    /// A database of which a few pages are in use and the rest, up to `sparse` bytes, is free and a hole. The freelist
    /// that tells so is stored, or none is.
    pub fn sparse(&self, listed: bool) -> PathBuf {
        let small = self.database("random", 1000, 200);
        let name = if listed {
            "sparse-listed.db"
        } else {
            "sparse.db"
        };
        let path = self.dir.join(name);
        if path.exists() {
            return path;
        }
        let new = path.with_extension("new");
        fs::copy(small, &new).expect("a file can be copied");
        let disk = DbFile::open(&new, true).expect("it can be opened");
        let base = Snapshot::open(disk.map().expect("it can be mapped"), Default::default());
        let base = base.expect("it is a database");
        let size = base.page_size() as u64;
        let (old, pages) = (*base.meta(), self.sparse / base.page_size() as u64);
        let mut meta = Meta {
            hwm: pages,
            freelist: boltfs::bolt::meta::NO_FREELIST,
            txid: old.txid + 1,
            ..old
        };
        if listed {
            let run = (HEADER as u64 + 8 * (pages + 1)).div_ceil(size);
            let free: Vec<u64> = (old.hwm + run..pages).collect();
            let header = Header {
                id: old.hwm,
                flags: FREELIST,
                count: u16::MAX,
                overflow: (run - 1) as u32,
            };
            let mut bytes = header.to_bytes().to_vec();
            bytes.extend((free.len() as u64).to_le_bytes());
            bytes.extend(free.iter().flat_map(|id| id.to_le_bytes()));
            let written = disk.write_all_at(&bytes, old.hwm * size);
            written.expect("a file can be written");
            meta.freelist = old.hwm;
        }
        disk.set_len(self.sparse).expect("a file can have a hole");
        let slot = (meta.txid % 2) as u8;
        let written = disk.write_all_at(&meta.to_page(slot), u64::from(slot) * size);
        written.expect("a file can be written");
        fs::rename(&new, &path).expect("a file can be renamed");
        path
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.shm);
    }
}

/// The n-th new value of a large commit; tests/oracle/bench.go writes the same.
pub fn changed_value(n: u32, len: usize) -> Vec<u8> {
    format!("changed {n:08} ")
        .bytes()
        .cycle()
        .take(len)
        .collect()
}
