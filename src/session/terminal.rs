//! What goes to a terminal: bytes of a database, and words of another process, must not move its
//! cursor or change its title.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::IsTerminal;

/// `text` with each control character but the line feed and the tab in a form that can be seen: `^[`
/// for the escape character, as `cat -v` writes it, `<U+009B>` for one that is not ASCII.
pub fn visible(text: &str) -> Cow<'_, str> {
    let acts = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if !text.contains(acts) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\x7f' => shown.push_str("^?"),
            c if !acts(c) => shown.push(c),
            c if c.is_ascii() => {
                shown.push('^');
                shown.push((c as u8 ^ 0x40) as char);
            }
            c => drop(write!(shown, "<U+{:04X}>", u32::from(c))),
        }
    }
    Cow::Owned(shown)
}

/// Whether colours are wanted on standard output: it is a terminal that knows them, and `NO_COLOR`
/// is not set.
pub fn wants_colours() -> bool {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    std::io::stdout().is_terminal()
        && set("NO_COLOR").is_none()
        && set("TERM").is_some_and(|term| term != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_act_on_is_seen() {
        assert!(matches!(visible("a\tb\nü 🙂"), Cow::Borrowed(_)));
        assert_eq!(
            visible("\x1b[2J\r\0\x7f\u{9b}2J\x07"),
            "^[[2J^M^@^?<U+009B>2J^G"
        );
        for c in (0..=0x10_ffff).filter_map(char::from_u32) {
            let shown = visible(c.encode_utf8(&mut [0; 4])).into_owned();
            let acts = |c: char| c.is_control() && c != '\n' && c != '\t';
            assert!(!shown.contains(acts), "{c:?} is shown as {shown:?}");
        }
    }
}
