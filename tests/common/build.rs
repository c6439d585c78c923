//! Databases built page by page, with whatever is wrong with them that a test needs.

use boltfs::bolt::Meta;
use boltfs::bolt::page::{BRANCH, BUCKET_FLAG, FREELIST, HEADER, Header, LEAF};

/// One element of a leaf page.
#[derive(Clone)]
pub struct Item {
    pub flags: u32,
    pub key: Vec<u8>,
    pub value: Vec<u8>,
}

/// A plain key.
pub fn plain(key: &[u8], value: &[u8]) -> Item {
    Item {
        flags: 0,
        key: key.to_vec(),
        value: value.to_vec(),
    }
}

/// A bucket with its root page elsewhere.
pub fn paged(name: &[u8], root: u64) -> Item {
    Item {
        flags: BUCKET_FLAG,
        key: name.to_vec(),
        value: [root.to_le_bytes(), [0; 8]].concat(),
    }
}

/// A bucket inside its value.
pub fn inline(name: &[u8], items: &[Item]) -> Item {
    Item {
        flags: BUCKET_FLAG,
        key: name.to_vec(),
        value: [vec![0; 16], leaf_image(0, 0, items)].concat(),
    }
}

/// A leaf page as long as its content.
pub fn leaf_image(id: u64, overflow: u32, items: &[Item]) -> Vec<u8> {
    let header = Header {
        id,
        flags: LEAF,
        count: u16::try_from(items.len()).expect("a page has at most 65535 elements"),
        overflow,
    };
    let (mut heads, mut data) = (header.to_bytes().to_vec(), Vec::new());
    for (i, item) in items.iter().enumerate() {
        let pos = HEADER * (items.len() - i) + data.len();
        for n in [
            item.flags,
            pos as u32,
            item.key.len() as u32,
            item.value.len() as u32,
        ] {
            heads.extend_from_slice(&n.to_le_bytes());
        }
        data.extend_from_slice(&item.key);
        data.extend_from_slice(&item.value);
    }
    heads.extend_from_slice(&data);
    heads
}

/// A file in the making. Pages are numbered from 2; the two metas are added at the end.
pub struct Build {
    pub page_size: usize,
    pub root: u64,
    pub freelist: u64,
    /// `None`: the number of pages.
    pub hwm: Option<u64>,
    pages: Vec<u8>,
}

impl Build {
    /// A file without a stored freelist; give it a `root`.
    pub fn new(page_size: usize) -> Build {
        Build {
            page_size,
            root: 0,
            freelist: u64::MAX,
            hwm: None,
            pages: vec![0; 2 * page_size],
        }
    }

    /// The number that the next page gets.
    pub fn next(&self) -> u64 {
        (self.pages.len() / self.page_size) as u64
    }

    fn add(&mut self, mut image: Vec<u8>) -> u64 {
        let pgid = self.next();
        image.resize(image.len().next_multiple_of(self.page_size), 0);
        self.pages.extend_from_slice(&image);
        pgid
    }

    fn overflow(&self, len: usize) -> u32 {
        (len.div_ceil(self.page_size) - 1) as u32
    }

    /// A leaf run just long enough.
    pub fn leaf(&mut self, items: &[Item]) -> u64 {
        let overflow = self.overflow(leaf_image(0, 0, items).len());
        self.add(leaf_image(self.next(), overflow, items))
    }

    /// A branch run just long enough.
    pub fn branch(&mut self, children: &[(&[u8], u64)]) -> u64 {
        let len = children
            .iter()
            .map(|(key, _)| HEADER + key.len())
            .sum::<usize>();
        let header = Header {
            id: self.next(),
            flags: BRANCH,
            count: u16::try_from(children.len()).expect("a page has at most 65535 elements"),
            overflow: self.overflow(HEADER + len),
        };
        let (mut heads, mut data) = (header.to_bytes().to_vec(), Vec::new());
        for (i, (key, child)) in children.iter().enumerate() {
            let pos = HEADER * (children.len() - i) + data.len();
            heads.extend_from_slice(&(pos as u32).to_le_bytes());
            heads.extend_from_slice(&(key.len() as u32).to_le_bytes());
            heads.extend_from_slice(&child.to_le_bytes());
            data.extend_from_slice(key);
        }
        heads.extend_from_slice(&data);
        self.add(heads)
    }

    /// The stored freelist.
    pub fn list(&mut self, ids: &[u64]) -> u64 {
        let header = Header {
            id: self.next(),
            flags: FREELIST,
            count: ids.len() as u16,
            overflow: self.overflow(HEADER + 8 * ids.len()),
        };
        let mut page = header.to_bytes().to_vec();
        for id in ids {
            page.extend_from_slice(&id.to_le_bytes());
        }
        self.freelist = self.add(page);
        self.freelist
    }

    /// A page of zeros.
    pub fn empty(&mut self) -> u64 {
        self.add(vec![0])
    }

    /// The bytes from page `pgid` on, to be spoilt.
    pub fn at(&mut self, pgid: u64) -> &mut [u8] {
        &mut self.pages[pgid as usize * self.page_size..]
    }

    /// Writes a little-endian number of `bytes` bytes at `offset` of page `pgid`.
    pub fn put(&mut self, pgid: u64, offset: usize, bytes: usize, number: u64) {
        self.at(pgid)[offset..offset + bytes].copy_from_slice(&number.to_le_bytes()[..bytes]);
    }

    /// The meta of transaction `txid`.
    pub fn meta(&self, txid: u64) -> Meta {
        Meta {
            page_size: self.page_size as u32,
            flags: 0,
            root: self.root,
            sequence: 0,
            freelist: self.freelist,
            hwm: self.hwm.unwrap_or(self.next()),
            txid,
        }
    }

    /// The file, with the same state in both metas.
    pub fn file(&self) -> Vec<u8> {
        self.file_with(self.meta(2), self.meta(1))
    }

    /// The file with these two metas.
    pub fn file_with(&self, first: Meta, second: Meta) -> Vec<u8> {
        let mut file = self.pages.clone();
        for (slot, meta) in [first, second].iter().enumerate() {
            let page = meta.to_page(slot as u8);
            let start = slot * self.page_size;
            file[start..start + page.len()].copy_from_slice(&page);
        }
        file
    }
}
