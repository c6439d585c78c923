//! The databases of tests/fixtures and what their manifest says about them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

use super::temp::TempDir;

/// One database of the manifest.
pub struct Fixture {
    /// Its entry, as written.
    pub entry: &'static Value,
}

impl Fixture {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Fixture> {
        let list = manifest()["fixtures"]
            .as_array()
            .expect("the manifest lists fixtures");
        list.iter().map(|entry| Fixture { entry })
    }

    /// Those of one class: healthy, quirk, recoverable or corrupt.
    pub fn of_class(class: &str) -> impl Iterator<Item = Fixture> {
        Fixture::all().filter(move |fixture| fixture.class() == class)
    }

    /// The one of this name, `.gz` left out.
    pub fn named(name: &str) -> Fixture {
        let found = Fixture::all().find(|fixture| fixture.name() == name);
        found.unwrap_or_else(|| panic!("there is no fixture {name}"))
    }

    /// File name without `.gz`.
    pub fn name(&self) -> &'static str {
        let file = self.text("file");
        file.strip_suffix(".gz").unwrap_or(file)
    }

    /// healthy, quirk, recoverable or corrupt.
    pub fn class(&self) -> &'static str {
        self.text("class")
    }

    /// A string of the entry.
    pub fn text(&self, field: &str) -> &'static str {
        self.entry[field]
            .as_str()
            .unwrap_or_else(|| panic!("{} has no {field}", self.entry["file"]))
    }

    /// A number of the entry; `None` where it is absent or null.
    pub fn number(&self, field: &str) -> Option<u64> {
        self.entry[field].as_u64()
    }

    /// Puts a copy of the database into `directory`, unpacked and writable.
    pub fn copy_to(&self, directory: &Path) -> PathBuf {
        let source = directory_of_fixtures().join(self.text("file"));
        let target = directory.join(self.name());
        if self.entry["gzip"] == true {
            let out = File::create(&target)
                .unwrap_or_else(|e| panic!("cannot create {}: {e}", target.display()));
            let status = Command::new("gzip")
                .arg("-dc")
                .arg(&source)
                .stdin(Stdio::null())
                .stdout(out)
                .status()
                .expect("gzip runs");
            assert!(status.success(), "gzip -dc {} failed", source.display());
        } else {
            fs::copy(&source, &target)
                .unwrap_or_else(|e| panic!("cannot copy {}: {e}", source.display()));
        }
        target
    }

    /// A copy in a temporary directory of its own.
    pub fn copy(&self) -> (TempDir, PathBuf) {
        let directory = TempDir::new("fixture");
        let file = self.copy_to(directory.path());
        (directory, file)
    }
}

/// tests/fixtures/MANIFEST.json.
pub fn manifest() -> &'static Value {
    static MANIFEST: OnceLock<Value> = OnceLock::new();
    MANIFEST.get_or_init(|| {
        let file = directory_of_fixtures().join("MANIFEST.json");
        let text =
            fs::read(&file).unwrap_or_else(|e| panic!("cannot read {}: {e}", file.display()));
        serde_json::from_slice(&text).expect("the manifest is JSON")
    })
}

fn directory_of_fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}
