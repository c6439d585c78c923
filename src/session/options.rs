//! What `-o` takes: our own options, and those that mount(8) and /etc/fstab pass to everybody.
//!
//! Options are separated by commas. A comma in a value is written `\,`, as fusermount3 has it, or
//! the whole value stands in double quotes, as mount(8) has it; `\\` is a backslash.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use nix::unistd::{Group, User};

use super::mount::Allow;

/// The options of a mount, as `-o` gives them. A later one overrides an earlier one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// `ro`.
    pub read_only: bool,
    /// `noexec`.
    pub no_exec: bool,
    /// `allow_other`, `allow_root`.
    pub allow: Allow,
    /// `raw`: show and store values as they are.
    pub raw: bool,
    /// `meta=0`, `meta=1`: mount the state of this meta page.
    pub meta: Option<u8>,
    /// `noprefetch`: put no file into the kernel's cache before it is read.
    pub no_prefetch: bool,
    /// `backup=FILE`: keep a copy of the database from before the commit.
    pub backup: Option<PathBuf>,
    /// `uid=`, `gid=`, `umask=`.
    pub owner: Owner,
}

/// Whose keys and buckets are at first, where that is not to be as with the database file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Owner {
    /// `uid=`, a number or a name.
    pub uid: Option<u32>,
    /// `gid=`, a number or a name.
    pub gid: Option<u32>,
    /// `umask=`, octal: the permissions that nobody has.
    pub umask: Option<u16>,
}

/// Why an option is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OptionError {
    /// Nobody knows it.
    Unknown(String),
    /// Its value means nothing.
    Value {
        /// The option with its value.
        option: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// `remount`.
    Remount,
}

impl fmt::Display for OptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OptionError::Unknown(option) => write!(f, "unknown mount option '{option}'"),
            OptionError::Value { option, wanted } => {
                write!(f, "mount option '{option}': {wanted}")
            }
            OptionError::Remount => f.write_str(
                "a mount cannot be changed while it is mounted: unmount it (which commits) and \
                 mount it again",
            ),
        }
    }
}

impl std::error::Error for OptionError {}

impl Options {
    /// Adds the options of one `-o`.
    ///
    /// # Errors
    /// The first one that is not known or means nothing.
    pub fn add(&mut self, list: &OsStr) -> Result<(), OptionError> {
        split(list.as_bytes())
            .into_iter()
            .try_for_each(|option| self.set(&option))
    }

    /// `list` without the options that nobody knows, as mount(8) wants it with `-s`.
    pub fn known(list: &OsStr) -> OsString {
        let mut known = Vec::new();
        for option in split(list.as_bytes()) {
            if let Err(OptionError::Unknown(_)) = Options::default().set(&option) {
                continue;
            }
            if !known.is_empty() {
                known.push(b',');
            }
            for byte in option {
                if matches!(byte, b',' | b'\\' | b'"') {
                    known.push(b'\\');
                }
                known.push(byte);
            }
        }
        OsString::from_vec(known)
    }

    fn set(&mut self, option: &[u8]) -> Result<(), OptionError> {
        let shown = || String::from_utf8_lossy(option).into_owned();
        let wrong = |wanted| OptionError::Value {
            option: shown(),
            wanted,
        };
        let equals = option.iter().position(|&byte| byte == b'=');
        let (name, value) = match equals.and_then(|at| option.split_at_checked(at)) {
            Some((name, value)) => (name, value.get(1..)),
            None => (option, None),
        };
        let text = || value.and_then(|value| std::str::from_utf8(value).ok());
        match (name, value) {
            (b"ro", None) => self.read_only = true,
            (b"rw", None) => self.read_only = false,
            (b"noexec", None) => self.no_exec = true,
            (b"exec", None) => self.no_exec = false,
            (b"allow_other", None) => self.allow = Allow::Other,
            (b"allow_root", None) => self.allow = Allow::Root,
            (b"raw", None) => self.raw = true,
            (b"noraw", None) => self.raw = false,
            (b"noprefetch", None) => self.no_prefetch = true,
            (b"prefetch", None) => self.no_prefetch = false,
            (b"meta", Some(b"0")) => self.meta = Some(0),
            (b"meta", Some(b"1")) => self.meta = Some(1),
            (b"meta", _) => return Err(wrong("give the meta page: meta=0 or meta=1")),
            (b"backup", Some(file @ [_, ..])) => {
                self.backup = Some(PathBuf::from(OsString::from_vec(file.to_vec())));
            }
            (b"backup", _) => return Err(wrong("give the file: backup=FILE")),
            (b"uid", _) => {
                let uid = text().and_then(user);
                self.owner.uid = Some(uid.ok_or_else(|| wrong("there is no such user"))?);
            }
            (b"gid", _) => {
                let gid = text().and_then(group);
                self.owner.gid = Some(gid.ok_or_else(|| wrong("there is no such group"))?);
            }
            (b"umask", _) => {
                let mask = text().and_then(|text| u16::from_str_radix(text, 8).ok());
                let mask = mask.filter(|&mask| mask <= 0o777);
                let mask = mask.ok_or_else(|| wrong("give three octal digits, such as 022"))?;
                self.owner.umask = Some(mask);
            }
            (b"remount", None) => return Err(OptionError::Remount),
            (name, _) if is_for_mount(name) => {}
            _ => return Err(OptionError::Unknown(shown())),
        }
        Ok(())
    }
}

fn user(text: &str) -> Option<u32> {
    match text.parse() {
        Ok(number) => Some(number),
        Err(_) => Some(User::from_name(text).ok()??.uid.as_raw()),
    }
}

fn group(text: &str) -> Option<u32> {
    match text.parse() {
        Ok(number) => Some(number),
        Err(_) => Some(Group::from_name(text).ok()??.gid.as_raw()),
    }
}

/// The options of a list, without what protects their commas.
fn split(list: &[u8]) -> Vec<Vec<u8>> {
    let mut options = vec![Vec::new()];
    let mut quoted = false;
    let mut bytes = list.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        let protected = bytes.next_if(|&next| byte == b'\\' && matches!(next, b',' | b'\\' | b'"'));
        match (byte, protected, options.last_mut()) {
            (_, Some(protected), Some(option)) => option.push(protected),
            (b',', None, _) if !quoted => options.push(Vec::new()),
            // Only around a whole value: in a file name without a comma it is a character.
            (b'"', None, Some(option)) if !quoted && option.ends_with(b"=") => quoted = true,
            (b'"', None, _) if quoted => quoted = false,
            (_, None, Some(option)) => option.push(byte),
            (_, _, None) => {}
        }
    }
    options.retain(|option| !option.is_empty());
    options
}

/// Options that mean something to mount(8), systemd or the kernel, and nothing to us. Whatever
/// they say, our mounts are `nosuid` and `nodev`, and permissions hold for whoever is let in.
fn is_for_mount(name: &[u8]) -> bool {
    matches!(
        name,
        b"defaults"
            | b"dev"
            | b"nodev"
            | b"suid"
            | b"nosuid"
            | b"default_permissions"
            | b"sync"
            | b"async"
            | b"dirsync"
            | b"atime"
            | b"noatime"
            | b"diratime"
            | b"nodiratime"
            | b"relatime"
            | b"norelatime"
            | b"strictatime"
            | b"nostrictatime"
            | b"lazytime"
            | b"nolazytime"
            | b"auto"
            | b"noauto"
            | b"nofail"
            | b"_netdev"
            | b"user"
            | b"nouser"
            | b"users"
            | b"nousers"
            | b"owner"
            | b"noowner"
            | b"group"
            | b"nogroup"
            | b"comment"
            | b"silent"
            | b"loud"
            | b"iversion"
            | b"noiversion"
            | b"mand"
            | b"nomand"
            | b"fsname"
            | b"subtype"
    ) || name.starts_with(b"x-")
        || name.starts_with(b"X-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(list: &str) -> Result<Options, OptionError> {
        let mut options = Options::default();
        options.add(OsStr::new(list)).map(|()| options)
    }

    #[test]
    fn what_mount_passes_is_taken() {
        let options = parse("ro,allow_other,dev,suid,nofail,_netdev,x-systemd.automount,user=bob");
        let wanted = Options {
            read_only: true,
            allow: Allow::Other,
            ..Options::default()
        };
        assert_eq!(options, Ok(wanted));
        assert_eq!(parse("ro,rw,noexec,exec,,"), Ok(Options::default()));
        assert!(parse("noprefetch").is_ok_and(|options| options.no_prefetch));
        assert_eq!(parse("noprefetch,prefetch"), Ok(Options::default()));
        assert_eq!(parse("meta=0,meta=1").unwrap().meta, Some(1));
        for wrong in ["meta", "meta=", "meta=2", "meta=01"] {
            assert!(matches!(parse(wrong), Err(OptionError::Value { .. })));
        }
    }

    #[test]
    fn owner_and_permissions() {
        let owner = |list| parse(list).map(|options| options.owner);
        let wanted = Owner {
            uid: Some(12),
            gid: Some(0),
            umask: Some(0o27),
        };
        assert_eq!(owner("uid=12,gid=root,umask=027"), Ok(wanted));
        assert_eq!(owner("uid=root").unwrap().uid, Some(0));
        for wrong in [
            "uid=",
            "uid",
            "uid=nobody-of-this-name",
            "gid=-1",
            "umask=8",
            "umask=1777",
            "umask",
        ] {
            let refused = parse(wrong);
            assert!(
                matches!(&refused, Err(OptionError::Value { option, .. }) if option == wrong),
                "{refused:?}"
            );
        }
    }

    #[test]
    fn a_value_may_hold_commas() {
        let backup = |list| parse(list).unwrap().backup.unwrap();
        assert_eq!(backup(r"ro,backup=/a\,b\\c,raw"), PathBuf::from(r"/a,b\c"));
        assert_eq!(backup(r#"backup="/a,b",ro"#), PathBuf::from("/a,b"));
        assert_eq!(backup(r#"backup=/a"b,ro"#), PathBuf::from(r#"/a"b"#));
        assert_eq!(backup(r"backup=/a\b=c"), PathBuf::from(r"/a\b=c"));
        let both = parse(r#"backup="/a,b",ro"#).unwrap();
        assert!(both.read_only);
        assert!(parse("backup=").is_err() && parse("backup").is_err());
        let mut options = Options::default();
        options.add(OsStr::from_bytes(b"backup=/\xff")).unwrap();
        assert_eq!(
            options.backup.unwrap().as_os_str(),
            OsStr::from_bytes(b"/\xff")
        );
    }

    #[test]
    fn what_nobody_knows_is_refused() {
        assert_eq!(
            parse("ro,alow_other"),
            Err(OptionError::Unknown("alow_other".to_owned()))
        );
        assert!(matches!(parse("ro=1"), Err(OptionError::Unknown(_))));
        assert_eq!(parse("remount,ro"), Err(OptionError::Remount));
        let known = |list: &str| Options::known(OsStr::new(list));
        assert_eq!(known("ro,alow_other,raw,uid="), "ro,raw,uid=");
        assert_eq!(known(r#"backup=/a\,b\\"c,hm"#), r#"backup=/a\,b\\\"c"#);
    }
}
