//! What the operations of a file system mean, in the plainest way: nodes with names.

mod driver;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use boltfs::overlay::PendingKind;
use boltfs::vfs::Error;
use boltfs::view::text;

use super::common::rng::Rng;
use super::common::tree::{Node, Tree};
pub use driver::Driver;

pub const PAGE_SIZES: [u32; 4] = [512, 1024, 4096, 16384];

/// The number of a node in the model.
type Id = usize;
const ROOT: Id = 0;

/// Keys that meet each other often enough.
pub fn key(rng: &mut Rng) -> Vec<u8> {
    match rng.below(12) {
        0 => vec![0, rng.below(5) as u8],
        1 => format!("a/{}", rng.below(3)).into_bytes(),
        2 => format!("0x{}", rng.below(3)).into_bytes(),
        3 => {
            let mut key = format!("long {} ", rng.below(3)).into_bytes();
            key.resize(300, b'.');
            key
        }
        4 => [&b"."[..], b"..", b".boltfs", b"%", b"\xff"][rng.below(5)].to_vec(),
        _ => format!("k{:02}", rng.below(40)).into_bytes(),
    }
}

/// A bucket of the base.
#[derive(Clone)]
struct Origin {
    path: Vec<Vec<u8>>,
    tree: Tree,
}

#[derive(Clone)]
enum Body {
    Dir {
        entries: BTreeMap<Vec<u8>, Id>,
        /// Where it is in the base.
        origin: Option<Origin>,
        seq: u64,
    },
    File {
        /// What was written; `None`: nothing.
        content: Option<Vec<u8>>,
        /// The value that it has in the base.
        own: Option<Vec<u8>>,
    },
}

/// All nodes, those that were unlinked among them.
#[derive(Clone)]
struct Model {
    nodes: Vec<Body>,
    parent: HashMap<Id, (Id, Vec<u8>)>,
    raw: bool,
    last: Option<Last>,
}

/// The file at each key, and its value.
type Values = BTreeMap<Vec<u8>, (Id, Vec<u8>)>;

/// What the last commit stored: the values in each directory, and of each file the content it had and the value.
#[derive(Clone)]
struct Last {
    dirs: HashMap<Id, Values>,
    files: HashMap<Id, (Option<Vec<u8>>, Vec<u8>)>,
    /// Those that were written to since.
    touched: BTreeSet<Id>,
    tree: Tree,
}

/// What an operation answers that must fail.
type Refusal = &'static str;

fn word(e: &Error) -> Refusal {
    match e {
        Error::NotFound => "not found",
        Error::Exists => "exists",
        Error::NotDirectory => "not a directory",
        Error::IsDirectory => "is a directory",
        Error::NotEmpty => "not empty",
        Error::NotPermitted => "not permitted",
        Error::NameTooLong => "name too long",
        Error::Invalid => "invalid",
        other => panic!("no operation of the model may be answered {other:?}"),
    }
}

impl Model {
    fn new(base: &Tree, raw: bool) -> Model {
        let mut model = Model {
            nodes: Vec::new(),
            parent: HashMap::new(),
            raw,
            last: None,
        };
        model.add_tree(base, Vec::new());
        model
    }

    fn add_tree(&mut self, tree: &Tree, path: Vec<Vec<u8>>) -> Id {
        let origin = Origin {
            path: path.clone(),
            tree: tree.clone(),
        };
        let id = self.add(Body::Dir {
            entries: BTreeMap::new(),
            origin: Some(origin),
            seq: tree.seq,
        });
        for (key, node) in &tree.nodes {
            let child = match node {
                Node::Value(value) => self.add(Body::File {
                    content: None,
                    own: Some(value.clone()),
                }),
                Node::Bucket(sub) => {
                    self.add_tree(sub, [&path[..], std::slice::from_ref(key)].concat())
                }
            };
            self.link(id, key.clone(), child);
        }
        id
    }

    fn add(&mut self, body: Body) -> Id {
        self.nodes.push(body);
        self.nodes.len() - 1
    }

    fn link(&mut self, dir: Id, key: Vec<u8>, child: Id) {
        self.entries_mut(dir).insert(key.clone(), child);
        self.parent.insert(child, (dir, key));
    }

    fn unlink(&mut self, dir: Id, key: &[u8]) -> Option<Id> {
        let child = self.entries_mut(dir).remove(key)?;
        self.parent.remove(&child);
        Some(child)
    }

    fn entries(&self, dir: Id) -> &BTreeMap<Vec<u8>, Id> {
        match &self.nodes[dir] {
            Body::Dir { entries, .. } => entries,
            Body::File { .. } => panic!("a file has no entries"),
        }
    }

    fn entries_mut(&mut self, dir: Id) -> &mut BTreeMap<Vec<u8>, Id> {
        match &mut self.nodes[dir] {
            Body::Dir { entries, .. } => entries,
            Body::File { .. } => panic!("a file has no entries"),
        }
    }

    fn is_dir(&self, id: Id) -> bool {
        matches!(self.nodes[id], Body::Dir { .. })
    }

    fn is_linked(&self, mut id: Id) -> bool {
        while let Some((dir, _)) = self.parent.get(&id) {
            id = *dir;
        }
        id == ROOT
    }

    fn is_inside(&self, mut id: Id, dir: Id) -> bool {
        while id != dir {
            match self.parent.get(&id) {
                Some((above, _)) => id = *above,
                None => return false,
            }
        }
        true
    }

    /// All that is linked, of one kind, in a fixed order.
    fn linked(&self, dirs: bool) -> Vec<Id> {
        let mut found = Vec::new();
        let mut stack = vec![ROOT];
        while let Some(id) = stack.pop() {
            if self.is_dir(id) {
                stack.extend(self.entries(id).values());
            }
            if self.is_dir(id) == dirs {
                found.push(id);
            }
        }
        found
    }

    fn path(&self, mut id: Id) -> Vec<Vec<u8>> {
        let mut path = Vec::new();
        while let Some((dir, key)) = self.parent.get(&id) {
            path.push(key.clone());
            id = *dir;
        }
        path.reverse();
        path
    }

    /// What a file shows.
    fn shown(&self, id: Id) -> Vec<u8> {
        match &self.nodes[id] {
            Body::File {
                content: Some(content),
                ..
            } => content.clone(),
            Body::File { own: Some(own), .. } => text::shown(own, self.raw).into_owned(),
            _ => Vec::new(),
        }
    }

    fn content_mut(&mut self, id: Id) -> &mut Vec<u8> {
        let shown = self.shown(id);
        if let Some(last) = &mut self.last {
            last.touched.insert(id);
        }
        match &mut self.nodes[id] {
            Body::File { content, .. } => content.get_or_insert(shown),
            Body::Dir { .. } => panic!("a directory has no content"),
        }
    }

    /// The value that the database has at the path of `key` in `dir`, a directory that it does not have.
    fn reference(&self, base: &Tree, dir: Id, key: &[u8]) -> Option<Vec<u8>> {
        let is_new = matches!(&self.nodes[dir], Body::Dir { origin: None, .. });
        if !is_new || !self.is_linked(dir) {
            return None;
        }
        let tree = self.last.as_ref().map_or(base, |last| &last.tree);
        tree.value(&self.path(dir), key).map(<[u8]>::to_vec)
    }

    /// The value that is stored of the file `id`, at `key` of `dir`.
    fn stored(&self, base: &Tree, dir: Id, key: &[u8], id: Id) -> Vec<u8> {
        let Body::File { content, own } = &self.nodes[id] else {
            panic!("a directory has no value")
        };
        let Some(content) = content else {
            return own.clone().unwrap_or_default();
        };
        let below = match &self.nodes[dir] {
            Body::Dir {
                origin: Some(origin),
                ..
            } => match origin.tree.nodes.get(key) {
                Some(Node::Value(value)) => Some(value.clone()),
                _ => None,
            },
            _ => None,
        };
        let last = self.last.as_ref();
        if let Some(last) = last
            && let Some((Some(_), value)) = last.files.get(&id)
            && !last.touched.contains(&id)
        {
            return value.clone();
        }
        let there = match last.and_then(|last| last.dirs.get(&dir)) {
            Some(keys) => {
                let there = keys.get(key);
                if let Some((file, value)) = there
                    && last.is_some_and(|last| last.files[file].0.as_ref() == Some(content))
                {
                    return value.clone();
                }
                there.map(|(_, value)| value.clone())
            }
            None => below,
        };
        let own = last
            .and_then(|last| last.files.get(&id).map(|(_, value)| value))
            .or(own.as_ref());
        let previous = there
            .or_else(|| self.reference(base, dir, key))
            .or_else(|| own.cloned());
        text::stored(content, previous.as_deref(), self.raw)
            .bytes
            .into_owned()
    }

    /// Takes note of a commit.
    fn committed(&mut self, base: &Tree) {
        let mut last = Last {
            dirs: HashMap::new(),
            files: HashMap::new(),
            touched: BTreeSet::new(),
            tree: self.tree(base, ROOT),
        };
        for dir in self.linked(true) {
            let Body::Dir { entries, .. } = &self.nodes[dir] else {
                continue;
            };
            let mut values = BTreeMap::new();
            for (key, id) in entries {
                if let Body::File { content, .. } = &self.nodes[*id] {
                    let value = self.stored(base, dir, key, *id);
                    last.files.insert(*id, (content.clone(), value.clone()));
                    values.insert(key.clone(), (*id, value));
                }
            }
            last.dirs.insert(dir, values);
        }
        self.last = Some(last);
    }

    /// What a commit must leave.
    fn tree(&self, base: &Tree, dir: Id) -> Tree {
        let Body::Dir { entries, seq, .. } = &self.nodes[dir] else {
            panic!("a file is no tree")
        };
        let node = |key: &Vec<u8>, id: Id| match &self.nodes[id] {
            Body::Dir { .. } => Node::Bucket(self.tree(base, id)),
            Body::File { .. } => Node::Value(self.stored(base, dir, key, id)),
        };
        let nodes = entries.iter();
        Tree {
            seq: *seq,
            nodes: nodes
                .map(|(key, id)| (key.clone(), node(key, *id)))
                .collect(),
        }
    }

    /// The node that stands for the base's bucket at `path`, if it is still there.
    fn alive(&self, path: &[Vec<u8>]) -> bool {
        self.linked(true)
            .into_iter()
            .any(|id| match &self.nodes[id] {
                Body::Dir {
                    origin: Some(origin),
                    ..
                } => origin.path == path,
                _ => false,
            })
    }

    /// What must be told to be pending.
    fn pending(&self, base: &Tree) -> Vec<Told> {
        let mut told = Vec::new();
        self.pending_in(base, ROOT, &mut Vec::new(), &mut told);
        told
    }

    fn pending_in(&self, base: &Tree, dir: Id, path: &mut Vec<Vec<u8>>, told: &mut Vec<Told>) {
        let Body::Dir {
            entries, origin, ..
        } = &self.nodes[dir]
        else {
            return;
        };
        let was = origin.as_ref().map(|origin| &origin.tree.nodes);
        let keys = entries.keys().chain(was.iter().flat_map(|was| was.keys()));
        for key in keys.collect::<BTreeSet<_>>() {
            path.push(key.clone());
            let item = |kind, bucket| Told {
                kind,
                path: path.clone(),
                bucket,
                old_len: None,
                new_len: None,
                from: None,
            };
            let was = was.and_then(|was| was.get(key));
            let is = entries.get(key).copied();
            let base_path = origin
                .as_ref()
                .map(|o| [&o.path[..], std::slice::from_ref(key)].concat());
            let same = is.is_some_and(|id| match &self.nodes[id] {
                Body::Dir {
                    origin: Some(o), ..
                } => Some(&o.path) == base_path.as_ref(),
                _ => false,
            });
            match was {
                Some(Node::Bucket(sub)) if same => {
                    if let Some(Body::Dir { seq, .. }) = is.map(|id| &self.nodes[id])
                        && *seq != sub.seq
                    {
                        told.push(item(PendingKind::Changed, true));
                    }
                }
                Some(Node::Bucket(_)) if !self.alive(base_path.as_deref().unwrap_or(&[])) => {
                    told.push(item(PendingKind::Deleted, true));
                }
                _ => {}
            }
            let old = match was {
                Some(Node::Value(value)) => Some(value),
                _ => None,
            };
            let old_len = old.map(|v| v.len() as u64);
            match is.map(|id| (id, &self.nodes[id])) {
                Some((id, Body::File { .. })) => {
                    let new = self.stored(base, dir, key, id);
                    let kind = if old.is_some() {
                        PendingKind::Changed
                    } else {
                        PendingKind::Added
                    };
                    let new_len = Some(new.len() as u64);
                    if old != Some(&new) {
                        told.push(Told {
                            old_len,
                            new_len,
                            ..item(kind, false)
                        });
                    }
                }
                Some((id, Body::Dir { origin, .. })) => {
                    if old.is_some() {
                        told.push(Told {
                            old_len,
                            ..item(PendingKind::Deleted, false)
                        });
                    }
                    match origin {
                        _ if same => {}
                        Some(origin) => told.push(Told {
                            from: Some(origin.path.clone()),
                            ..item(PendingKind::Moved, true)
                        }),
                        None => told.push(item(PendingKind::Added, true)),
                    }
                    self.pending_in(base, id, path, told);
                }
                None if old.is_some() => {
                    told.push(Told {
                        old_len,
                        ..item(PendingKind::Deleted, false)
                    });
                }
                None => {}
            }
            path.pop();
        }
    }
}

/// One pending change.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    kind: PendingKind,
    path: Vec<Vec<u8>>,
    bucket: bool,
    old_len: Option<u64>,
    new_len: Option<u64>,
    from: Option<Vec<Vec<u8>>>,
}
