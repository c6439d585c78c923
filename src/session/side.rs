//! The two values that a change is about, on their way to the command that shows them.

use std::borrow::Cow;
use std::io::{self, Read};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Values up to this length, in bytes, are sent; of longer ones length and hash.
const LARGEST_SENT: usize = 4 << 20;

/// One of the two values that a change is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Side<'a> {
    /// All of it.
    Whole(Cow<'a, [u8]>),
    /// Too long to be looked at.
    Long {
        /// Its length in bytes.
        len: u64,
        /// Its SHA-256, in hex.
        sha256: String,
    },
}

impl<'a> Side<'a> {
    /// As `value` is told.
    pub fn of(value: &'a [u8]) -> Side<'a> {
        if value.len() <= LARGEST_SENT {
            return Side::Whole(Cow::Borrowed(value));
        }
        Side::Long {
            len: value.len() as u64,
            sha256: sha256(value),
        }
    }

    /// What is told about it; its bytes follow if there is a `"sent"`, their number.
    pub fn to_json(&self) -> Value {
        match self {
            Side::Whole(bytes) => json!({ "sent": bytes.len() }),
            Side::Long { len, sha256 } => json!({ "len": len, "sha256": sha256 }),
        }
    }

    /// Reads what [`to_json`](Self::to_json) and the bytes behind it say; nothing in it is trusted.
    ///
    /// # Errors
    /// Those of `from`, and what no process of ours says.
    pub fn read(told: &Value, from: &mut impl Read) -> io::Result<Option<Side<'static>>> {
        if told.is_null() {
            return Ok(None);
        }
        let broken = || io::Error::from(io::ErrorKind::InvalidData);
        if let Some(len) = told["sent"].as_u64() {
            if len > LARGEST_SENT as u64 {
                return Err(broken());
            }
            let mut bytes = Vec::new();
            from.take(len).read_to_end(&mut bytes)?;
            if bytes.len() as u64 != len {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            return Ok(Some(Side::Whole(Cow::Owned(bytes))));
        }
        let len = told["len"].as_u64().ok_or_else(broken)?;
        let sha256 = told["sha256"].as_str().ok_or_else(broken)?;
        if sha256.len() != 64 || !sha256.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(broken());
        }
        let sha256 = sha256.to_owned();
        Ok(Some(Side::Long { len, sha256 }))
    }

    /// Its length in bytes.
    pub fn length(&self) -> u64 {
        match self {
            Side::Whole(bytes) => bytes.len() as u64,
            Side::Long { len, .. } => *len,
        }
    }

    /// Its SHA-256, in hex.
    pub fn sha256(&self) -> String {
        match self {
            Side::Whole(bytes) => sha256(bytes),
            Side::Long { sha256, .. } => sha256.clone(),
        }
    }
}

fn sha256(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(side: &Side<'_>) -> Vec<u8> {
        match side {
            Side::Whole(bytes) => bytes.to_vec(),
            Side::Long { .. } => Vec::new(),
        }
    }

    #[test]
    fn a_value_arrives_whole_or_as_its_hash() {
        let long = vec![7; LARGEST_SENT + 1];
        for value in [&b""[..], b"abc", &long[1..], &long] {
            let side = Side::of(value);
            let read = Side::read(&side.to_json(), &mut &sent(&side)[..]).unwrap();
            let read = read.unwrap();
            assert_eq!(read.length(), value.len() as u64);
            assert_eq!(read.sha256(), sha256(value));
            assert_eq!(read, side);
        }
        assert_eq!(
            Side::of(b"abc").sha256(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(Side::read(&Value::Null, &mut &b"x"[..]).unwrap(), None);
    }

    #[test]
    fn a_stranger_cannot_make_us_take_more_than_a_value() {
        for told in [
            json!({ "sent": LARGEST_SENT + 1 }),
            json!({ "sent": 4 }),
            json!({ "sent": -1 }),
            json!({}),
            json!([]),
            json!({ "len": 7 }),
            json!({ "len": 7, "sha256": "\u{1b}[2J" }),
        ] {
            assert!(Side::read(&told, &mut &b"abc"[..]).is_err(), "{told}");
        }
    }
}
