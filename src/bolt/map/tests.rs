use super::*;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::AtomicBool;

/// A file in which every 8 bytes tell where they are.
struct Numbered {
    path: PathBuf,
    file: File,
}

fn word(offset: usize) -> [u8; 8] {
    (offset as u64 + 1).to_le_bytes()
}

impl Numbered {
    fn new(len: usize) -> Numbered {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("boltfs-map-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let words = (0..len).step_by(8).flat_map(word);
        std::fs::write(&path, words.collect::<Vec<u8>>()).unwrap();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        Numbered { path, file }
    }
}

impl Drop for Numbered {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Reads words by turns; `None` where bytes are said to be lost.
fn read(map: &Map, start: usize, words: usize) -> Option<Vec<u8>> {
    let range = start..start + 8 * words;
    map.steady(|| {
        let there = !map.has_lost(range.clone());
        there.then(|| map[range.clone()].to_vec())
    })
}

fn is_right(start: usize, bytes: &[u8]) -> bool {
    bytes
        .chunks(8)
        .enumerate()
        .all(|(n, chunk)| chunk == word(start + 8 * n))
}

#[test]
fn a_map_whose_file_is_closed_is_as_good_until_it_is_cut() {
    const LEN: usize = 40_960;
    let numbered = Numbered::new(LEN);
    let mut map = Map::of(&numbered.file).unwrap();
    let copy = map.clone();
    assert!(!map.close_file(), "there is a copy");
    drop(copy);
    assert!(map.close_file());
    assert!(is_right(0, &read(&map, 0, LEN / 8).unwrap()));
    numbered.file.set_len(20_480).unwrap();
    assert!(is_right(0, &read(&map, 0, 20_480 / 8).unwrap()));
    assert_eq!(read(&map, 20_480, 1), None);
    assert!(map.has_lost(20_480..LEN) && !map.has_lost(0..20_480));
}

#[test]
fn what_is_cut_off_is_known_to_be_lost_and_the_rest_is_served() {
    for (len, cut) in [
        (40_960, 20_480),
        (40_960, 20_488),
        (40_960, 24_568),
        (40_960, 0),
        (40_952, 8),
        (40_952, 40_944),
    ] {
        let numbered = Numbered::new(len);
        let map = Map::of(&numbered.file).unwrap();
        assert_eq!((map.len(), map.cut(), map.losses()), (len, None, 0));
        numbered.file.set_len(cut as u64).unwrap();
        for again in 0..2 {
            for start in (0..len).step_by(8) {
                let found = read(&map, start, 1);
                assert_eq!(
                    found.is_some(),
                    start + 8 <= cut,
                    "{start} of {cut}, {again}"
                );
                assert!(found.is_none_or(|bytes| is_right(start, &bytes)));
            }
            // What was lost stays lost, even if there are bytes again.
            numbered.file.set_len(len as u64).unwrap();
        }
        assert_eq!(map.cut(), Some(cut as u64));
    }
}

#[test]
fn a_page_cut_in_two_tells_by_the_length_alone() {
    let numbered = Numbered::new(4096);
    let map = Map::of(&numbered.file).unwrap();
    let before = map.losses();
    assert!(!map.has_lost_since(before));
    numbered.file.set_len(100).unwrap();
    assert_eq!(map[104..112], [0; 8]); // without a signal
    assert!(map.has_lost_since(before));
    assert!(map.has_lost(96..104) && !map.has_lost(80..96));
}

#[test]
fn many_readers_while_the_file_shrinks() {
    const LEN: usize = 4 << 20;
    for _ in 0..4 {
        let numbered = Numbered::new(LEN);
        let map = Map::of(&numbered.file).unwrap();
        let others: Vec<_> = (0..40).map(|_| Map::of(&numbered.file).unwrap()).collect();
        let end = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for reader in 1..4_u64 {
                let (map, end) = (&map, &end);
                scope.spawn(move || {
                    let mut state = reader;
                    while !end.load(Ordering::Relaxed) {
                        state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
                        let start = (state >> 33) as usize % (LEN - 8192) / 8 * 8;
                        if let Some(bytes) = read(map, start, 1 + (state >> 60) as usize * 60) {
                            assert!(is_right(start, &bytes), "{start}");
                        }
                    }
                });
            }
            for step in 0..200 {
                numbered.file.set_len((LEN - step * 20_004) as u64).unwrap();
                std::thread::sleep(std::time::Duration::from_micros(300));
            }
            end.store(true, Ordering::Relaxed);
        });
        assert_eq!(read(&map, 8, 1).unwrap(), word(8));
        assert_eq!(read(&map, LEN - 16, 1), None);
        drop(others);
    }
}

/// In a process of its own: a fault elsewhere, and a signal from outside, end it as ever.
#[test]
fn faults_that_are_not_ours_are_not_hidden() {
    const WHAT: &str = "BOLTFS_TEST_SIGBUS";
    let numbered = Numbered::new(4096);
    match std::env::var(WHAT).as_deref() {
        Ok("fault") => {
            let ours = Map::of(&numbered.file).unwrap();
            // SAFETY: it is to fault.
            #[allow(unsafe_code)]
            let theirs = unsafe { memmap2::Mmap::map(&numbered.file).unwrap() };
            numbered.file.set_len(0).unwrap();
            assert_eq!(ours[0], 0);
            let _ = std::fs::remove_file(&numbered.path);
            std::process::exit(theirs[0].into());
        }
        Ok(_) => {
            let _ours = Map::of(&numbered.file).unwrap();
            let _ = std::fs::remove_file(&numbered.path);
            // Rust's own handler lets the first one pass.
            for _ in 0..2 {
                let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGBUS);
            }
            std::process::exit(0);
        }
        Err(_) => {}
    }
    for what in ["fault", "signal"] {
        let test = "bolt::map::tests::faults_that_are_not_ours_are_not_hidden";
        let mut command = Command::new(std::env::current_exe().unwrap());
        let output = command
            .args([test, "--exact"])
            .env(WHAT, what)
            .output()
            .unwrap();
        assert_eq!(
            output.status.signal(),
            Some(libc::SIGBUS),
            "{what}: {output:?}"
        );
    }
}
