//! A set of keys, beside a plain one.

use super::*;
use crate::view::testing::Rng;
use std::collections::BTreeSet;

impl Whiteouts {
    /// What must hold between and in the blocks; answers the bytes that they take.
    fn verify(&self) -> usize {
        let (mut bytes, mut before): (_, Option<Vec<u8>>) = (0, None);
        for (first, block) in &self.blocks {
            let keys: Vec<_> = block.keys(first).collect();
            assert_eq!(keys[0], **first);
            assert_eq!(keys.last(), Some(&block.last));
            assert_eq!(keys.len(), block.count);
            assert!(block.count <= MOST_KEYS);
            assert!(keys.is_sorted_by(|a, b| a < b));
            assert!(before < Some(keys[0].clone()));
            before = Some(block.last.clone());
            let own = first.len() + block.rest.capacity() + block.last.capacity();
            bytes += own + size_of::<(Box<[u8]>, Block)>();
        }
        bytes
    }
}

/// Keys that follow each other, that begin alike in places, and that have nothing to do with each other.
fn key(rng: &mut Rng) -> Vec<u8> {
    let n = rng.below(700);
    match rng.below(4) {
        0 => format!("key-{n:08}").into_bytes(),
        1 => vec![b'a'; n],
        2 => [&[b'z'; 3000][..], &n.to_be_bytes()].concat(),
        _ => (0..1 + rng.below(3))
            .map(|_| rng.below(256) as u8)
            .collect(),
    }
}

#[test]
fn it_is_a_set_in_order() {
    for seed in 0..40 {
        let mut rng = Rng::new(seed + 1);
        let (mut set, mut plain) = (Whiteouts::default(), BTreeSet::new());
        for step in 0..1500 {
            let key = key(&mut rng);
            // More and more, then fewer and fewer.
            if rng.below(1500) > step {
                set.insert(&key);
                plain.insert(key);
            } else {
                set.remove(&key);
                plain.remove(&key);
            }
            let asked = self::key(&mut rng);
            assert_eq!(set.contains(&asked), plain.contains(&asked), "seed {seed}");
            if step % 50 != 0 {
                continue;
            }
            set.verify();
            let ends = [Bound::Included(&asked[..]), Bound::Excluded(&asked)];
            for from in ends.into_iter().chain([Bound::Unbounded]) {
                let expected = plain.range::<[u8], _>((from, Bound::Unbounded));
                assert!(set.range(from).eq(expected.cloned()), "seed {seed}");
            }
        }
    }
}

#[test]
fn what_is_taken_out_is_not_there() {
    let keys: Vec<_> = (0..1000_u32).map(u32::to_be_bytes).collect();
    let mut set = Whiteouts::default();
    keys.iter().for_each(|key| set.insert(key));
    for (n, key) in keys.iter().enumerate() {
        assert!(set.contains(key));
        set.remove(key);
        set.remove(key);
        assert!(!set.contains(key));
        assert_eq!(set.range(Bound::Unbounded).count(), keys.len() - n - 1);
        set.verify();
    }
    assert!(set.blocks.is_empty());
}

/// In whatever order they come, neighbours share their blocks.
#[test]
fn keys_take_little_memory() {
    let keys: Vec<_> = (0..20_000).map(|n| format!("key-{n:08}")).collect();
    let scattered = (0..keys.len()).map(|n| n * 7919 % keys.len());
    let orders: [(&str, Box<dyn Iterator<Item = usize>>, usize); 3] = [
        ("a listing's", Box::new(0..keys.len()), 8),
        ("backwards", Box::new((0..keys.len()).rev()), 16),
        ("none", Box::new(scattered), 16),
    ];
    for (what, order, most) in orders {
        let mut set = Whiteouts::default();
        order.for_each(|n| set.insert(keys[n].as_bytes()));
        let each = set.verify() as f64 / keys.len() as f64;
        assert!(each < most as f64, "{what}: {each} bytes a key");
    }
}
