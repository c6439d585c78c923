//! Databases that something has happened to: a fixture, and what was done to its bytes.
//!
//! An input says which fixture and, in records of a fixed size, what bad memory, bad disks, crashes and strangers did to it. So
//! a fuzzer changes a few bytes where the file has many thousands, and nearly every change is one that matters.

use boltfs::bolt::meta::{META_LEN, fnv1a};
use boltfs::bolt::page::HEADER;

use super::input::Input;

/// Says that the input goes on with the bytes of the file itself.
const WHOLE: u8 = 0xff;

macro_rules! fixtures {
    ($($name:literal)*) => {
        &[$(($name, include_bytes!(concat!("../../fixtures/", $name, ".db")))),*]
    };
}

/// What inputs start from, by name. A fixture's place in this list is part of every input: new ones go to the end.
pub static FIXTURES: &[(&str, &[u8])] = fixtures![
    "worked-example" "ps-512" "ps-1024" "one-bucket" "one-empty-bucket" "inline-limit-1024"
    "freelist-missing" "nofreelistsync" "etcd-sample" "weird-keys" "json" "empty" "emptied-root"
    "leaf-data-reordered" "trimmed-to-hwm" "writeto-odd-txid" "garbage-after-hwm" "etcd-snapshot"
    "shape-all-leaves-empty" "shape-empty-leaf" "shape-fat-leaf" "shape-single-child" "surgery-reverted"
    "page-stale" "leaf-key-past-next" "shared-bucket-root" "leaf-unsorted" "branch-unsorted"
    "leaf-overflow-1" "page-zeroed" "cycle-branch-ancestor" "bucket-flag-on-plain" "elem-vsize-max"
    "leaf-count-too-large" "inline-count-large" "meta-active-torn" "freelist-live-page"
    "many-buckets" "nested-20" "fill-100" "all-bytes" "shape-deep-120"
];

/// The file that an input stands for.
pub fn database(input: &mut Input<'_>) -> Vec<u8> {
    let which = input.byte();
    if which == WHOLE {
        return input.rest().to_vec();
    }
    let mut file = FIXTURES[usize::from(which) % FIXTURES.len()].1.to_vec();
    let how = input.byte();
    for _ in 0..how & 15 {
        change(&mut file, input);
    }
    if how & 0x80 == 0 {
        seal(&mut file);
    }
    file
}

/// The page size that a file of the fixtures' says it has.
fn page_size(file: &[u8]) -> usize {
    let size = |at| number(file, at, 4) as usize;
    match size(HEADER + 8) {
        n @ (512 | 1024 | 4096) => n,
        _ => 1024,
    }
}

fn number(file: &[u8], at: usize, bytes: usize) -> u64 {
    let mut all = [0; 8];
    if let Some(found) = file.get(at..at + bytes) {
        all[..bytes].copy_from_slice(found);
    }
    u64::from_le_bytes(all)
}

fn put(file: &mut [u8], at: usize, bytes: usize, number: u64) {
    if let Some(place) = file.get_mut(at..at + bytes) {
        place.copy_from_slice(&number.to_le_bytes()[..bytes]);
    }
}

/// One thing that happens to a file.
fn change(file: &mut Vec<u8>, input: &mut Input<'_>) {
    let (kind, page, at, value) = (input.byte(), input.u16(), input.u16(), input.u16());
    let ps = page_size(file);
    let pages = (file.len() / ps).max(1);
    let (page, other) = (page % pages, value % pages);
    let (start, from) = (page * ps, other * ps);
    if start + ps > file.len() || from + ps > file.len() {
        return;
    }
    let at = at % ps;
    // Small numbers, and those around the ends of all types.
    let wide = value as u16 as i16 as i64 as u64;
    match kind % 16 {
        0 => file[start + at] ^= 1 << (value % 8),
        1 => file[start + at] = value as u8,
        2 => file[start..start + ps].fill(0),
        3 => (0..ps).for_each(|i| file.swap(start + i, from + i)),
        4 => {
            file.copy_within(from..from + ps, start);
            put(file, start, 8, page as u64);
        }
        5 => file.copy_within(from..from + ps, start),
        6 => {
            let sector = at / 512 * 512;
            file.copy_within(from + sector..from + sector + 512, start + sector);
        }
        7 => file.truncate((start + at).max(80)),
        8 => {
            let (at, bytes) = [(0, 8), (8, 2), (10, 2), (12, 4)][at % 4];
            put(file, start + at, bytes, wide);
        }
        9 => put(file, start + HEADER + at / 4 * 4 % (ps - HEADER), 4, wide),
        10 => put(file, start + HEADER + at / 8 * 8 % (ps - HEADER), 8, wide),
        // The header of a bucket may lie anywhere.
        11 => put(file, start + at, 8, wide),
        12 => {
            let end = (start + at + value % 64).min(start + ps);
            file[start + at..end].fill(if value & 0x8000 == 0 { 0 } else { 0xff });
        }
        13 => {
            let field = HEADER + [8, 12, 16, 24, 32, 40, 48][at % 7];
            let bytes = if at % 7 < 2 { 4 } else { 8 };
            put(file, page % 2 * ps + field, bytes, wide);
        }
        14 => {
            let end = start + ps;
            let shift = value % 64;
            let to = (start + at + shift).min(end);
            file.copy_within(start + at..end - (to - start - at), to);
        }
        _ => file.resize(file.len() + (value % 4) * ps + value / 0x1000, value as u8),
    }
}

/// Gives both metas a right checksum: without one nothing behind them is looked at.
fn seal(file: &mut [u8]) {
    let ps = page_size(file);
    for start in [HEADER, ps + HEADER] {
        if let Some(record) = file.get_mut(start..start + META_LEN) {
            let sum = fnv1a(&record[..META_LEN - 8]);
            record[META_LEN - 8..].copy_from_slice(&sum.to_le_bytes());
        }
    }
}
