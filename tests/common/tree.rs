//! A database as a plain nested map: what a test expects, what bbolt says is there, what we read.

use std::collections::BTreeMap;

/// A bucket's content; the root's sequence is always 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    /// The bucket's sequence number.
    pub seq: u64,
    /// Keys and sub-buckets, which share one name space.
    pub nodes: BTreeMap<Vec<u8>, Node>,
}

/// One entry of a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A plain key's value.
    Value(Vec<u8>),
    /// A bucket.
    Bucket(Tree),
}

/// One step of a transaction, as bbolt's interface has it. A path names a bucket from the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Sets a key. Fails if a bucket has that name.
    Put {
        path: Vec<Vec<u8>>,
        key: Vec<u8>,
        value: Vec<u8>,
    },
    /// Removes a key; nothing happens if it is not there. Fails if it is a bucket.
    Delete { path: Vec<Vec<u8>>, key: Vec<u8> },
    /// Makes the bucket at `path`. Fails if anything has that name, or the parent is missing.
    CreateBucket { path: Vec<Vec<u8>> },
    /// Removes the bucket at `path` with all that is in it. Fails if there is none.
    DeleteBucket { path: Vec<Vec<u8>> },
    /// Sets the bucket's sequence.
    SetSequence { path: Vec<Vec<u8>>, seq: u64 },
}

impl Tree {
    /// The bucket at `path`.
    pub fn bucket(&self, path: &[Vec<u8>]) -> Option<&Tree> {
        path.iter()
            .try_fold(self, |tree, name| match tree.nodes.get(name) {
                Some(Node::Bucket(sub)) => Some(sub),
                _ => None,
            })
    }

    /// The bucket at `path`, to be changed.
    pub fn bucket_mut(&mut self, path: &[Vec<u8>]) -> Option<&mut Tree> {
        path.iter()
            .try_fold(self, |tree, name| match tree.nodes.get_mut(name) {
                Some(Node::Bucket(sub)) => Some(sub),
                _ => None,
            })
    }

    /// The value of `key` in the bucket at `path`.
    pub fn value(&self, path: &[Vec<u8>], key: &[u8]) -> Option<&[u8]> {
        match self.bucket(path)?.nodes.get(key) {
            Some(Node::Value(value)) => Some(value),
            _ => None,
        }
    }

    /// How many keys there are in all, and how many buckets, itself not counted.
    pub fn count(&self) -> (usize, usize) {
        self.nodes
            .values()
            .fold((0, 0), |(keys, buckets), node| match node {
                Node::Value(_) => (keys + 1, buckets),
                Node::Bucket(sub) => {
                    let (k, b) = sub.count();
                    (keys + k, buckets + b + 1)
                }
            })
    }

    /// The paths of all buckets, parents first, the root (an empty path) left out.
    pub fn bucket_paths(&self) -> Vec<Vec<Vec<u8>>> {
        let mut paths = Vec::new();
        for (name, node) in &self.nodes {
            if let Node::Bucket(sub) = node {
                paths.push(vec![name.clone()]);
                for mut below in sub.bucket_paths() {
                    below.insert(0, name.clone());
                    paths.push(below);
                }
            }
        }
        paths
    }

    /// Does what bbolt would do; an error leaves the tree as it was.
    pub fn apply(&mut self, edit: &Edit) -> Result<(), String> {
        let missing = || "bucket not found".to_string();
        match edit {
            Edit::Put { path, key, value } => {
                if path.is_empty() || key.is_empty() {
                    return Err("key required, in a bucket".into());
                }
                let bucket = self.bucket_mut(path).ok_or_else(missing)?;
                if let Some(Node::Bucket(_)) = bucket.nodes.get(key) {
                    return Err("incompatible value".into());
                }
                bucket.nodes.insert(key.clone(), Node::Value(value.clone()));
            }
            Edit::Delete { path, key } => {
                if path.is_empty() {
                    return Err("the root holds only buckets".into());
                }
                let bucket = self.bucket_mut(path).ok_or_else(missing)?;
                if let Some(Node::Bucket(_)) = bucket.nodes.get(key) {
                    return Err("incompatible value".into());
                }
                bucket.nodes.remove(key);
            }
            Edit::CreateBucket { path } => {
                let (name, parent) = path.split_last().ok_or("bucket name required")?;
                let parent = self.bucket_mut(parent).ok_or_else(missing)?;
                if name.is_empty() {
                    return Err("bucket name required".into());
                }
                if parent.nodes.contains_key(name) {
                    return Err("there is a key or a bucket of that name".into());
                }
                parent
                    .nodes
                    .insert(name.clone(), Node::Bucket(Tree::default()));
            }
            Edit::DeleteBucket { path } => {
                let (name, parent) = path.split_last().ok_or("bucket name required")?;
                let parent = self.bucket_mut(parent).ok_or_else(missing)?;
                match parent.nodes.get(name) {
                    Some(Node::Bucket(_)) => parent.nodes.remove(name),
                    Some(Node::Value(_)) => return Err("incompatible value".into()),
                    None => return Err(missing()),
                };
            }
            Edit::SetSequence { path, seq } => {
                if path.is_empty() {
                    return Err("the root's sequence is never stored".into());
                }
                self.bucket_mut(path).ok_or_else(missing)?.seq = *seq;
            }
        }
        Ok(())
    }

    /// The edits that make this tree out of an empty database.
    pub fn as_edits(&self) -> Vec<Edit> {
        let mut edits = Vec::new();
        self.add_edits(&[], &mut edits);
        edits
    }

    fn add_edits(&self, path: &[Vec<u8>], edits: &mut Vec<Edit>) {
        for (name, node) in &self.nodes {
            match node {
                Node::Value(value) => edits.push(Edit::Put {
                    path: path.to_vec(),
                    key: name.clone(),
                    value: value.clone(),
                }),
                Node::Bucket(sub) => {
                    let mut below = path.to_vec();
                    below.push(name.clone());
                    edits.push(Edit::CreateBucket {
                        path: below.clone(),
                    });
                    if sub.seq != 0 {
                        edits.push(Edit::SetSequence {
                            path: below.clone(),
                            seq: sub.seq,
                        });
                    }
                    sub.add_edits(&below, edits);
                }
            }
        }
    }

    /// The edits that make `target` of this tree.
    pub fn edits_to(&self, target: &Tree) -> Vec<Edit> {
        fn change(was: &Tree, is: &Tree, path: &[Vec<u8>], edits: &mut Vec<Edit>) {
            for (name, node) in &was.nodes {
                let below = [path, std::slice::from_ref(name)].concat();
                match (node, is.nodes.get(name)) {
                    (Node::Bucket(was), Some(Node::Bucket(is))) => {
                        if was.seq != is.seq {
                            edits.push(Edit::SetSequence {
                                path: below.clone(),
                                seq: is.seq,
                            });
                        }
                        change(was, is, &below, edits);
                    }
                    (Node::Bucket(_), _) => edits.push(Edit::DeleteBucket { path: below }),
                    (Node::Value(_), Some(Node::Value(_))) => {}
                    (Node::Value(_), _) => edits.push(Edit::Delete {
                        path: path.to_vec(),
                        key: name.clone(),
                    }),
                }
            }
            let mut new = Tree::default();
            for (name, node) in &is.nodes {
                match (was.nodes.get(name), node) {
                    (Some(Node::Bucket(_)), Node::Bucket(_)) => {}
                    (Some(was), is) if was == is => {}
                    _ => drop(new.nodes.insert(name.clone(), node.clone())),
                }
            }
            new.add_edits(path, edits);
        }
        let mut edits = Vec::new();
        change(self, target, &[], &mut edits);
        edits
    }

    /// The first difference, in words; `None` when they are equal.
    pub fn difference(&self, other: &Tree) -> Option<String> {
        self.difference_at(other, "")
    }

    fn difference_at(&self, other: &Tree, at: &str) -> Option<String> {
        if self.seq != other.seq {
            return Some(format!(
                "bucket {at}/: sequence {} against {}",
                self.seq, other.seq
            ));
        }
        for (name, node) in &self.nodes {
            let here = format!("{at}/{}", show(name));
            match (node, other.nodes.get(name)) {
                (_, None) => return Some(format!("{here}: only in the first")),
                (Node::Bucket(a), Some(Node::Bucket(b))) => {
                    if let Some(difference) = a.difference_at(b, &here) {
                        return Some(difference);
                    }
                }
                (Node::Value(a), Some(Node::Value(b))) if a == b => {}
                (Node::Value(a), Some(Node::Value(b))) => {
                    return Some(format!("{here}: value {} against {}", show(a), show(b)));
                }
                _ => return Some(format!("{here}: a key in one, a bucket in the other")),
            }
        }
        let extra = other
            .nodes
            .keys()
            .find(|name| !self.nodes.contains_key(*name))?;
        Some(format!("{at}/{}: only in the second", show(extra)))
    }

    /// Fails the test with the first difference in words.
    #[track_caller]
    pub fn assert_same(&self, found: &Tree, what: &str) {
        if let Some(difference) = self.difference(found) {
            panic!("{what}: expected against found: {difference}");
        }
    }
}

/// Bytes for a message: as text where printable, and not too long.
fn show(bytes: &[u8]) -> String {
    let start = &bytes[..bytes.len().min(40)];
    let tail = if bytes.len() > 40 {
        format!("… ({} bytes)", bytes.len())
    } else {
        String::new()
    };
    format!("{}{tail}", start.escape_ascii())
}

/// Lower-case hex.
pub fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)] as char);
        text.push(DIGITS[usize::from(byte & 15)] as char);
    }
    text
}

/// The bytes of a hex text; panics on any other.
pub fn from_hex(text: &str) -> Vec<u8> {
    let digit = |c: u8| {
        (c as char)
            .to_digit(16)
            .unwrap_or_else(|| panic!("not hex: {text}")) as u8
    };
    assert!(text.len().is_multiple_of(2), "not hex: {text}");
    text.as_bytes()
        .chunks(2)
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}
