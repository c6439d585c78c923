//! Editors, with a terminal and somebody at the keys: vim, nano, emacs, busybox vi.

use crate::bench::{A, B, Bench, MEMBER_A};
use crate::terminal::Terminal;

/// The value with the second member's address mended.
fn mended() -> String {
    MEMBER_A.replace("10.0.0.12", "10.0.0.99")
}

as_everybody! {
    /// As Debian ships it, with swap files, on JSON: style kept, nothing left behind.
    fn vim_on_json(user) {
        let mut bench = Bench::new(user);
        let mut vim = Terminal::start(&bench, &format!("vim {A}"));
        vim.wait_for("6L, 82B").keys("/0.12\rfc").keys(":s/0\\.12/0.99/\r").keys("oX\x1b").keys("u");
        vim.keys(":w\r").wait_for("written");
        assert_eq!(bench.sh("ls -A members"), ".80020537c70f3495.swp\n80020537c70f3495\ncebdf10928a06f3c\n");
        vim.keys(":q\r");
        vim.ends();
        assert_eq!(bench.sh("ls -A members"), "80020537c70f3495\ncebdf10928a06f3c\n");
        bench.assert_pending(&[&format!("changed {A} 64 64")]);
        bench.expect(A, mended());
        bench.commit();
    }

    /// The value has no newline at its end, the file that vim writes has one: it is not stored.
    fn vim_on_text_without_a_newline(user) {
        let mut bench = Bench::new(user);
        let mut vim = Terminal::start(&bench, "vim cluster/clusterVersion");
        vim.wait_for("[noeol]").keys("cw3.4.27\x1b").keys(":wq\r");
        vim.ends();
        assert_eq!(bench.sh("od -An -c cluster/clusterVersion | tr -s ' '"), " 3 . 4 . 2 7 . 5 . 0 \\n\n");
        let mut vim = Terminal::start(&bench, "vim cluster/clusterVersion");
        vim.wait_for("1L, 11B").keys("cc3.4.27\x1b:x\r");
        vim.ends();
        bench.assert_pending(&["changed cluster/clusterVersion 5 6 final newline left off"]);
        bench.expect("cluster/clusterVersion", "3.4.27");
        bench.commit();
    }

    /// Saved and not changed: nothing is staged, whatever the value's end is.
    fn vim_saves_what_it_read(user) {
        let bench = Bench::new(user);
        for key in [A, "config/python", "config/with-newline", "config/lines", "cluster/clusterVersion", "config/empty"] {
            bench.sh(&format!("vim -es -c 'source $VIMRUNTIME/defaults.vim' -c wq {key}"));
        }
        bench.sh("cd large && vim -b -es -c wq blob");
        bench.commit_nothing();
    }

    /// All ways in which vim makes backups; /tmp is usually left out of it.
    fn vim_with_backups(user) {
        let mut bench = Bench::new(user);
        for (copy, version) in [("yes", "3.6.1"), ("no", "3.6.2"), ("auto", "3.6.3")] {
            bench.sh(&format!(
                "vim -es -c 'set backup backupskip= backupcopy={copy}' -c 's/.*/{version}/' -c wq cluster/clusterVersion"
            ));
            assert_eq!(bench.sh("ls -A cluster"), "clusterVersion\nclusterVersion~\n");
            let pending = bench.pending();
            assert_eq!(pending[0], "changed cluster/clusterVersion 5 5 final newline left off");
            assert!(pending[1].starts_with("added cluster/clusterVersion~ ") && pending[1].ends_with("looks like an editor's leftover"));
        }
        bench.sh("echo kept >cluster/clusterVersion~");
        bench.expect("cluster/clusterVersion", "3.6.3");
        bench.expect("cluster/clusterVersion~", "kept\n");
        let report = bench.commit();
        assert!(report.contains("cluster/clusterVersion~"), "the report names it: {report}");
    }

    /// `set backupcopy=no`: the new file takes the name of the old one, which gets the backup's. JSON stays compact.
    fn vim_that_renames_the_old_file(user) {
        let mut bench = Bench::new(user);
        bench.sh(&format!("vim -es -c 'set writebackup backupcopy=no' -c '%s/0\\.12/0.99/' -c wq {A}"));
        bench.assert_pending(&[&format!("changed {A} 64 64")]);
        bench.expect(A, mended());
        bench.commit();
    }

    /// Killed while it had the file open: its swap file would be a member of the cluster.
    fn vim_that_is_killed(user) {
        let mut bench = Bench::new(user);
        let mut vim = Terminal::start(&bench, &format!("vim {A}"));
        vim.wait_for("6L, 82B").keys("x:pre\r").wait_for("preserved");
        drop(vim);
        bench.sh("pkill -9 -f '^vim members/80020537c70f3495$' -u $(id -u) || true; sleep 0.1");
        let pending = bench.pending();
        assert_eq!(pending.len(), 1, "{pending:?}");
        let expected = "added members/.80020537c70f3495.swp";
        assert!(pending[0].starts_with(expected) && pending[0].ends_with("looks like an editor's leftover"), "{pending:?}");
        bench.sh("rm members/.80020537c70f3495.swp");
        // vim -r works on a mount as well.
        bench.assert_pending(&[]);
        bench.expect("members/new", "as written\n");
        bench.sh("printf 'as written\\n' >members/new");
        bench.commit();
    }

    /// A file that is new keeps what was written.
    fn vim_on_a_new_file(user) {
        let mut bench = Bench::new(user);
        let mut vim = Terminal::start(&bench, "vim config/fresh");
        vim.wait_for("[New]").keys("ifirst\rsecond\x1b").keys(":wq\r");
        vim.ends();
        bench.assert_pending(&["added config/fresh 13"]);
        bench.expect("config/fresh", "first\nsecond\n");
        bench.commit();
    }

    fn nano(user) {
        let mut bench = Bench::new(user);
        let mut nano = Terminal::start(&bench, "nano cluster/clusterVersion");
        nano.wait_for("Exit").keys("\x0b3.4.27\x0f").wait_for("Write").keys("\r").wait_for("Wrote").keys("\x18");
        nano.ends();
        bench.assert_pending(&["changed cluster/clusterVersion 5 6 final newline left off"]);
        // JSON: the member's first line goes and comes back.
        let mut nano = Terminal::start(&bench, &format!("nano {B}"));
        nano.wait_for("Exit").keys("\x0b\x15 \x0f").wait_for("Write").keys("\r").wait_for("Wrote").keys("\x18");
        nano.ends();
        bench.assert_pending(&["changed cluster/clusterVersion 5 6 final newline left off"]);
        assert_eq!(bench.sh("ls -A cluster members"), "cluster:\nclusterVersion\n\nmembers:\n80020537c70f3495\ncebdf10928a06f3c\n");
        bench.expect("cluster/clusterVersion", "3.4.27");
        bench.commit();
    }

    /// With backups and its own kind of lock file.
    fn nano_with_backups(user) {
        let mut bench = Bench::new(user);
        let mut nano = Terminal::start(&bench, "nano --backup --locking cluster/clusterVersion");
        nano.wait_for("Exit");
        assert_eq!(bench.sh("ls -A cluster"), ".clusterVersion.swp\nclusterVersion\n");
        nano.keys("\x0b3.4.27\x0f").wait_for("Write").keys("\r").wait_for("Wrote").keys("\x18");
        nano.ends();
        bench.assert_pending(&[
            "changed cluster/clusterVersion 5 6 final newline left off",
            "added cluster/clusterVersion~ 5 looks like an editor's leftover",
        ]);
        bench.sh("rm cluster/clusterVersion~");
        bench.expect("cluster/clusterVersion", "3.4.27");
        bench.commit();
    }

    /// Its lock is a symbolic link, which a database has no place for: it must save all the same.
    fn emacs(user) {
        let mut bench = Bench::new(user);
        // It makes no backups of what is in /tmp.
        let mut emacs = Terminal::start(&bench, "emacs -nw -Q --eval \"(setq temporary-file-directory \\\"$OUT/\\\" \
            native-comp-deferred-compilation nil backup-enable-predicate (lambda (name) t))\" cluster/clusterVersion");
        emacs.wait_for("3.5.0").keys("\x0b3.4.27\x18\x13").wait_for("Wrote").keys("\x18\x03");
        emacs.ends();
        // It may have started another one that compiles its Lisp in the background.
        bench.wait_until_nobody_is_there();
        bench.assert_pending(&[
            "changed cluster/clusterVersion 5 6",
            "added cluster/clusterVersion~ 5 looks like an editor's leftover",
        ]);
        bench.sh("rm cluster/clusterVersion~");
        bench.expect("cluster/clusterVersion", "3.4.27");
        bench.commit();
    }

    fn busybox_vi(user) {
        let mut bench = Bench::new(user);
        let mut vi = Terminal::start(&bench, "busybox vi cluster/clusterVersion");
        vi.wait_for("3.5.0").keys("rX:wq\r");
        vi.ends();
        bench.assert_pending(&["changed cluster/clusterVersion 5 5"]);
        bench.expect("cluster/clusterVersion", "X.5.0");
        bench.commit();
    }
}
