//! A database's content with changes in it that remembers where each bucket came from: what a mount stages, and the
//! change set that the writer takes.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

use boltfs::bolt::{BucketEdit, Changes, Edit, Element, Snapshot, Source};

use super::rng::Rng;
use super::tree::{Node, Tree};

/// A path of keys from the root.
pub type Path = Vec<Vec<u8>>;

/// A bucket as it is to be.
#[derive(Clone, Debug, Default)]
pub struct Staged {
    pub seq: u64,
    /// Where it is in the base; none for a new one.
    pub origin: Option<Path>,
    pub nodes: BTreeMap<Vec<u8>, Item>,
}

/// An entry of a bucket as it is to be.
#[derive(Clone, Debug)]
pub enum Item {
    Value(Vec<u8>),
    Bucket(Staged),
}

impl Staged {
    /// Nothing changed yet.
    pub fn new(tree: &Tree, path: Path) -> Staged {
        let item = |name: &Vec<u8>, node: &Node| match node {
            Node::Value(value) => Item::Value(value.clone()),
            Node::Bucket(sub) => Item::Bucket(Staged::new(
                sub,
                [&path[..], std::slice::from_ref(name)].concat(),
            )),
        };
        Staged {
            seq: tree.seq,
            nodes: tree
                .nodes
                .iter()
                .map(|(name, node)| (name.clone(), item(name, node)))
                .collect(),
            origin: Some(path),
        }
    }

    /// The content.
    pub fn tree(&self) -> Tree {
        let node = |item: &Item| match item {
            Item::Value(value) => Node::Value(value.clone()),
            Item::Bucket(sub) => Node::Bucket(sub.tree()),
        };
        Tree {
            seq: self.seq,
            nodes: self
                .nodes
                .iter()
                .map(|(name, item)| (name.clone(), node(item)))
                .collect(),
        }
    }

    pub fn bucket_mut(&mut self, path: &[Vec<u8>]) -> &mut Staged {
        path.iter()
            .fold(self, |at, name| match at.nodes.get_mut(name) {
                Some(Item::Bucket(sub)) => sub,
                _ => panic!("no bucket at {path:?}"),
            })
    }

    /// The change set that makes this of `tree`, which is the content of `base`.
    pub fn changes<'a>(&'a self, base: &'a Snapshot, tree: &'a Tree) -> Changes<'a> {
        let mut moved = HashSet::new();
        let edits = self.edits(base, tree, Some(tree), &mut moved);
        Changes {
            edits: Box::new(edits.into_iter().map(Ok)),
            moved,
        }
    }

    fn edits<'a>(
        &'a self,
        base: &'a Snapshot,
        all: &'a Tree,
        was: Option<&'a Tree>,
        moved: &mut HashSet<u64>,
    ) -> Vec<(Cow<'a, [u8]>, Edit<'a>)> {
        let mut edits: BTreeMap<&'a [u8], Edit<'a>> = BTreeMap::new();
        for name in was.iter().flat_map(|was| was.nodes.keys()) {
            if !self.nodes.contains_key(name) {
                edits.insert(name, Edit::Delete);
            }
        }
        for (name, item) in &self.nodes {
            let old = was.and_then(|was| was.nodes.get(name));
            let edit = match item {
                Item::Value(value) => match old {
                    Some(Node::Value(old)) if old == value => continue,
                    _ => Edit::Put(Cow::Borrowed(value)),
                },
                Item::Bucket(sub) => {
                    let here = self
                        .origin
                        .as_ref()
                        .map(|at| [&at[..], std::slice::from_ref(name)].concat());
                    let source = match &sub.origin {
                        None => Source::New,
                        Some(origin) if Some(origin) == here.as_ref() => Source::Existing,
                        Some(origin) => {
                            let element = element(base, origin);
                            moved.insert(element.offset);
                            Source::Moved(element)
                        }
                    };
                    let was = sub.origin.as_ref().and_then(|origin| all.bucket(origin));
                    let edits = sub.edits(base, all, was, moved);
                    let sequence =
                        Some(sub.seq).filter(|&seq| was.is_none_or(|was| was.seq != seq));
                    let same = matches!(source, Source::Existing);
                    if same && edits.is_empty() && sequence.is_none() {
                        continue;
                    }
                    Edit::Bucket(BucketEdit {
                        source,
                        sequence,
                        edits: Box::new(edits.into_iter().map(Ok)),
                    })
                }
            };
            edits.insert(name, edit);
        }
        edits
            .into_iter()
            .map(|(name, edit)| (Cow::Borrowed(name), edit))
            .collect()
    }

    /// Changes a little or a lot, of one kind or several.
    pub fn mutate(&mut self, rng: &mut Rng, page_size: usize) {
        for _ in 0..rng.range(1, 3) {
            let paths = self.paths();
            let path = rng.pick(&paths).clone();
            let most = (40 * 1024 / page_size).clamp(4, 60);
            match rng.below(12) {
                0 | 1 => self.few(rng, page_size, &path),
                2 => self.fill(rng, page_size, &path, most),
                3 => self.fill(rng, page_size, &path, 4 * most),
                4 | 5 => self.thin(rng, &path),
                6 => self.resize(rng, page_size, &path),
                7 | 8 => self.buckets(rng, page_size, &path),
                9 => {
                    let at = self.bucket_mut(&path);
                    if at.origin.as_ref().is_none_or(|origin| !origin.is_empty()) {
                        at.seq = rng.next();
                    }
                }
                10 => self.shift(rng, &path),
                _ => self.scatter(rng, page_size, &path),
            }
        }
    }

    /// The paths of all buckets, the root's among them.
    pub fn paths(&self) -> Vec<Path> {
        let mut paths = vec![vec![]];
        for (name, item) in &self.nodes {
            if let Item::Bucket(sub) = item {
                let below = sub.paths().into_iter();
                paths.extend(below.map(|path| [&[name.clone()][..], &path].concat()));
            }
        }
        paths
    }

    fn few(&mut self, rng: &mut Rng, page_size: usize, path: &Path) {
        let at = self.bucket_mut(path);
        for _ in 0..rng.range(1, 6) {
            let names: Vec<_> = at.nodes.keys().cloned().collect();
            if rng.one_in(2) || names.is_empty() {
                let style = rng.below(5);
                let n = rng.below(300);
                at.put(key(rng, style, n, page_size), value(rng, page_size));
            } else if rng.one_in(2) {
                at.put(rng.pick(&names).clone(), value(rng, page_size));
            } else {
                at.nodes.remove(rng.pick(&names));
            }
        }
    }

    /// Puts a value, in place of a bucket of that name too.
    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        if key.len() <= 32768 {
            self.nodes.insert(key, Item::Value(value));
        }
    }

    /// New keys in ascending order, behind, before or between those that are there.
    fn fill(&mut self, rng: &mut Rng, page_size: usize, path: &Path, most: usize) {
        let at = self.bucket_mut(path);
        let style = rng.below(5);
        let start = rng.below(1000);
        let step = rng.range(1, 3);
        for n in 0..rng.range(1, most) {
            at.put(
                key(rng, style, start + n * step, page_size),
                value(rng, page_size),
            );
        }
    }

    fn scatter(&mut self, rng: &mut Rng, page_size: usize, path: &Path) {
        let at = self.bucket_mut(path);
        let names: Vec<_> = at.nodes.keys().cloned().collect();
        let nth = rng.range(1, 20);
        for name in names {
            if rng.one_in(nth) {
                match rng.below(3) {
                    0 => drop(at.nodes.remove(&name)),
                    1 => at.put(name, value(rng, page_size)),
                    _ => at.put([&name[..], b"+"].concat(), value(rng, page_size)),
                }
            }
        }
    }

    /// Deletes a range, or all but a few.
    fn thin(&mut self, rng: &mut Rng, path: &Path) {
        let at = self.bucket_mut(path);
        let names: Vec<_> = at.nodes.keys().cloned().collect();
        if rng.one_in(2) {
            let from = rng.below(names.len() + 1);
            let to = rng.range(from, names.len());
            for name in &names[from..to] {
                at.nodes.remove(name);
            }
        } else {
            let keep = rng.range(1, 30);
            at.nodes.retain(|_, _| rng.one_in(keep));
        }
    }

    /// Gives many values another size.
    fn resize(&mut self, rng: &mut Rng, page_size: usize, path: &Path) {
        let size = rng.below(page_size);
        for item in self.bucket_mut(path).nodes.values_mut() {
            if let Item::Value(value) = item
                && !rng.one_in(5)
            {
                *value = rng.bytes(size);
            }
        }
    }

    /// Creates, deletes, moves and exchanges buckets; turns keys into buckets and back.
    fn buckets(&mut self, rng: &mut Rng, page_size: usize, path: &Path) {
        let paths = self.paths();
        let others: Vec<_> = paths.iter().filter(|p| !p.is_empty()).cloned().collect();
        match rng.below(6) {
            0 | 1 if path.len() < 6 => {
                let mut new = Staged::default();
                let names = self
                    .bucket_mut(path)
                    .nodes
                    .keys()
                    .cloned()
                    .collect::<Vec<_>>();
                let name = match names.is_empty() || rng.one_in(2) {
                    true => key(rng, 0, 0, page_size),
                    false => rng.pick(&names).clone(),
                };
                for n in 0..rng.below(20) {
                    new.put(key(rng, 1, n, page_size), value(rng, page_size));
                }
                self.bucket_mut(path).nodes.insert(name, Item::Bucket(new));
            }
            2 if !others.is_empty() => {
                let gone = rng.pick(&others);
                let (name, parent) = gone.split_last().expect("not the root");
                let parent = self.bucket_mut(parent);
                match rng.one_in(3) {
                    true => parent.put(name.clone(), value(rng, page_size)),
                    false => drop(parent.nodes.remove(name)),
                }
            }
            3 | 4 if !others.is_empty() => {
                // A move: not into itself.
                let from = rng.pick(&others).clone();
                let targets: Vec<_> = paths.iter().filter(|p| !p.starts_with(&from)).collect();
                let to = (*rng.pick(&targets)).clone();
                let (name, parent) = from.split_last().expect("not the root");
                let Some(item) = self.bucket_mut(parent).nodes.remove(name) else {
                    return;
                };
                let name = match rng.one_in(2) {
                    true => name.clone(),
                    false => key(rng, 0, 0, page_size),
                };
                // What is replaced is gone, even a bucket.
                self.bucket_mut(&to).nodes.insert(name, item);
            }
            5 if others.len() > 1 => {
                let (a, b) = (rng.pick(&others).clone(), rng.pick(&others).clone());
                if a.starts_with(&b) || b.starts_with(&a) {
                    return;
                }
                let one = std::mem::take(self.bucket_mut(&a));
                let two = std::mem::replace(self.bucket_mut(&b), one);
                *self.bucket_mut(&a) = two;
            }
            _ => {}
        }
    }

    /// Takes keys away at one end and puts as many at the other.
    fn shift(&mut self, rng: &mut Rng, path: &Path) {
        let at = self.bucket_mut(path);
        let n = rng.below(at.nodes.len() + 1);
        for _ in 0..n {
            let Some((name, item)) = at.nodes.pop_first() else {
                return;
            };
            let name = [&[0xfe][..], &name].concat();
            if name.len() <= 32768 {
                at.nodes.insert(name, item);
            }
        }
    }
}

/// The element of the bucket at `path`.
pub fn element<'a>(base: &'a Snapshot, path: &[Vec<u8>]) -> Element<'a> {
    let mut found: Option<Element<'a>> = None;
    for name in path {
        let bucket = match &found {
            None => base.root(),
            Some(element) => base.root().sub_bucket(element).expect("it was read before"),
        };
        // By a walk: where keys are out of order, a look-up may miss it.
        let element = bucket.iter().find_map(|e| e.ok().filter(|e| e.key == name));
        found = Some(element.unwrap_or_else(|| panic!("{path:?} is not in the base")));
    }
    found.expect("the root has no element")
}

fn key(rng: &mut Rng, style: usize, n: usize, page_size: usize) -> Vec<u8> {
    match style {
        0 => (0..rng.range(1, 6))
            .map(|_| b'a' + rng.below(8) as u8)
            .collect(),
        1 => format!("{n:06}").into_bytes(),
        2 => (n as u64).to_be_bytes().to_vec(),
        3 => {
            let mut key = format!("prefix/{}", "p".repeat(page_size / 5)).into_bytes();
            key.extend_from_slice(format!("{n:05}").as_bytes());
            key
        }
        _ => {
            let most = if rng.one_in(8) {
                3 * page_size
            } else {
                page_size / 2
            };
            let len = rng.range(1, most.min(32768));
            let mut key = format!("{n:04}").into_bytes();
            key.resize(len.max(4), b'k');
            key
        }
    }
}

fn value(rng: &mut Rng, page_size: usize) -> Vec<u8> {
    let len = match rng.below(40) {
        0..20 => rng.below(20),
        20..32 => rng.below(page_size / 4),
        32..37 => rng.range(page_size / 2, 2 * page_size),
        37 => page_size - rng.below(60),
        38 => page_size / 4 - rng.below(60),
        _ => rng.below(12 * page_size),
    };
    rng.bytes(len)
}
