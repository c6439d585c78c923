//! What `-o` takes: our own options, and those that mount(8) and /etc/fstab pass to everybody.

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
}

/// An option that nobody knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownOption(pub String);

impl Options {
    /// Adds the options of one `-o`, separated by commas.
    ///
    /// # Errors
    /// The first one that is not known.
    pub fn add(&mut self, list: &str) -> Result<(), UnknownOption> {
        list.split(',')
            .filter(|option| !option.is_empty())
            .try_for_each(|option| self.set(option))
    }

    fn set(&mut self, option: &str) -> Result<(), UnknownOption> {
        match option {
            "ro" => self.read_only = true,
            "rw" => self.read_only = false,
            "noexec" => self.no_exec = true,
            "exec" => self.no_exec = false,
            "allow_other" => self.allow = Allow::Other,
            "allow_root" => self.allow = Allow::Root,
            "raw" => self.raw = true,
            "noraw" => self.raw = false,
            other if is_for_mount(other) => {}
            other => return Err(UnknownOption(other.to_owned())),
        }
        Ok(())
    }
}

/// Options that mean something to mount(8), systemd or the kernel, and nothing to us. Whatever
/// they say, our mounts are `nosuid`, `nodev` and `default_permissions`.
fn is_for_mount(option: &str) -> bool {
    let name = option.split_once('=').map_or(option, |(name, _)| name);
    matches!(
        name,
        "defaults"
            | "dev"
            | "nodev"
            | "suid"
            | "nosuid"
            | "default_permissions"
            | "sync"
            | "async"
            | "dirsync"
            | "atime"
            | "noatime"
            | "diratime"
            | "nodiratime"
            | "relatime"
            | "norelatime"
            | "strictatime"
            | "nostrictatime"
            | "lazytime"
            | "nolazytime"
            | "auto"
            | "noauto"
            | "nofail"
            | "_netdev"
            | "user"
            | "nouser"
            | "users"
            | "nousers"
            | "owner"
            | "noowner"
            | "group"
            | "nogroup"
            | "comment"
            | "silent"
            | "loud"
            | "iversion"
            | "noiversion"
            | "mand"
            | "nomand"
            | "fsname"
            | "subtype"
    ) || name.starts_with("x-")
        || name.starts_with("X-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(list: &str) -> Result<Options, UnknownOption> {
        let mut options = Options::default();
        options.add(list).map(|()| options)
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
    }

    #[test]
    fn what_nobody_knows_is_refused() {
        assert_eq!(
            parse("ro,alow_other"),
            Err(UnknownOption("alow_other".to_owned()))
        );
    }
}
