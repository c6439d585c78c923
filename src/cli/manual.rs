//! The man page: what clap knows of the command line, and around it the text of `manual.md`, with
//! all that can be relied on in the middle.
//!
//! The texts are Markdown, as people read it: headings, paragraphs, lists, indented code, tables.

use std::io::{self, Write};

use clap::{ArgAction, Command};
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};

const TEXT: &str = include_str!("manual.md");
const SEMANTICS: &str = include_str!("../../tests/SEMANTICS.md");

/// The section of `manual.md` that [`SEMANTICS`] goes into.
const HEAD_OF_SEMANTICS: &str = "\n# SEMANTICS\n";

/// Writes the page.
///
/// # Errors
/// Those of `out`.
pub fn write(command: Command, out: &mut dyn Write) -> io::Result<()> {
    let mut page = Vec::new();
    write_page(command, &mut page)?;
    // An option is never hyphenated at the end of a line: who copies it would copy the hyphen.
    let page = String::from_utf8_lossy(&page).replace(r"\fB\-\-", r"\%\fB\-\-");
    out.write_all(page.as_bytes())
}

fn write_page(command: Command, out: &mut dyn Write) -> io::Result<()> {
    let mut command = command;
    command.build();
    let man = Man::new(command.clone())
        .title("BOLTFS")
        // The same source makes the same page on any day. An empty word would be dropped.
        .date("\"\"")
        .manual("boltfs manual");
    man.render_title(out)?;
    man.render_name_section(out)?;
    man.render_synopsis_section(out)?;
    // What clap knows comes after the first section.
    let (description, rest) = split_before(TEXT, "\n# ");
    write_markdown(description, out)?;
    man.render_options_section(out)?;
    write_commands(&command, out)?;
    let (before, semantics) = split_before(rest, HEAD_OF_SEMANTICS);
    write_markdown(before, out)?;
    let (head, after) = semantics.split_at(HEAD_OF_SEMANTICS.len().min(semantics.len()));
    let (lead, after) = split_before(after, "\n# ");
    write_markdown(head, out)?;
    write_markdown(lead, out)?;
    write_markdown(split_before(SEMANTICS, "\n## ").1, out)?;
    write_markdown(after, out)
}

/// What comes before the first `mark`, and the rest, which starts with it.
fn split_before<'a>(text: &'a str, mark: &str) -> (&'a str, &'a str) {
    text.split_at(text.find(mark).unwrap_or(text.len()))
}

fn write_commands(command: &Command, out: &mut dyn Write) -> io::Result<()> {
    let mut roff = Roff::new();
    roff.control("SH", ["COMMANDS"]);
    roff.to_writer(out)?;
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        let mut sub = sub.clone();
        let usage = sub.render_usage().to_string();
        let usage = usage.trim_start_matches("Usage:").trim();
        let about = sub.get_long_about().or(sub.get_about());
        let about = about.map(ToString::to_string).unwrap_or_default();
        let mut roff = Roff::new();
        roff.control("SS", [usage]);
        roff.to_writer(out)?;
        // clap takes the full stop from a single line only.
        write_markdown(&format!("{}.", about.trim_end_matches('.')), out)?;
        // Those that every command has stand above.
        let sub = sub.mut_args(|arg| {
            let everywhere = arg.is_global_set() || matches!(arg.get_action(), ArgAction::Help);
            arg.hide(everywhere)
        });
        if sub.get_arguments().any(|arg| !arg.is_hide_set()) {
            let mut options = Vec::new();
            Man::new(sub).render_options_section(&mut options)?;
            let options = String::from_utf8_lossy(&options).replace(".SH OPTIONS\n", "");
            out.write_all(options.as_bytes())?;
        }
    }
    Ok(())
}

fn write_markdown(text: &str, out: &mut dyn Write) -> io::Result<()> {
    let mut roff = Roff::new();
    let mut blocks = Blocks {
        roff: &mut roff,
        open: Open::Nothing,
        words: String::new(),
    };
    for line in text.lines() {
        blocks.line(line);
    }
    blocks.close();
    roff.to_writer(out)
}

/// What the lines seen last are part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    Nothing,
    Paragraph,
    Item,
    Code,
    TableHead,
    Table,
}

struct Blocks<'a> {
    roff: &'a mut Roff,
    open: Open,
    /// The text of the open paragraph or item.
    words: String,
}

impl Blocks<'_> {
    fn line(&mut self, line: &str) {
        let trimmed = line.trim();
        let indented = line
            .strip_prefix("    ")
            .filter(|_| self.open != Open::Item);
        if let Some(code) = indented.filter(|_| self.open != Open::Paragraph) {
            if self.open != Open::Code {
                self.close();
                self.roff.control("PP", []);
                self.roff.control("RS", ["4"]);
                self.roff.control("EX", []);
                self.open = Open::Code;
            }
            self.roff.text([roman(code)]);
        } else if trimmed.is_empty() {
            self.close();
        } else if let Some(title) = trimmed.strip_prefix("# ") {
            self.close();
            self.roff.control("SH", [title]);
        } else if let Some(title) = trimmed.strip_prefix("## ") {
            self.close();
            self.roff.control("SS", [title]);
        } else if let Some(cells) = trimmed.strip_prefix('|') {
            self.row(cells.strip_suffix('|').unwrap_or(cells));
        } else if let Some(item) = line.strip_prefix("- ") {
            self.close();
            let labelled = item
                .strip_prefix("**")
                .and_then(|item| item.split_once("** "));
            let (label, width, item) = match labelled {
                Some((label, item)) => (label, "4", item),
                None => ("\\(bu", "2", item),
            };
            self.roff.control("IP", [label, width]);
            self.open = Open::Item;
            self.words = item.to_owned();
        } else {
            if !matches!(self.open, Open::Paragraph | Open::Item) {
                self.close();
                self.roff.control("PP", []);
                self.open = Open::Paragraph;
            }
            if !self.words.is_empty() {
                self.words.push(' ');
            }
            self.words.push_str(trimmed);
        }
    }

    /// A row of a table: the first cell is the term, the others say what it means.
    fn row(&mut self, cells: &str) {
        match self.open {
            // The heads of the columns, and the line below them.
            Open::Table if cells.starts_with(" ---") => {}
            Open::Table => {
                let (term, meaning) = cells.split_once(" | ").unwrap_or((cells, ""));
                self.roff.control("TP", []);
                self.roff.text(inlines(term.trim()));
                self.roff
                    .text(inlines(&meaning.trim().replace(" | ", "; ")));
            }
            Open::TableHead => self.open = Open::Table,
            _ => {
                self.close();
                self.open = Open::TableHead;
            }
        }
    }

    fn close(&mut self) {
        if self.open == Open::Code {
            self.roff.control("EE", []);
            self.roff.control("RE", []);
        }
        if !self.words.is_empty() {
            let words = std::mem::take(&mut self.words);
            self.roff.text(inlines(without_tests(&words)));
        }
        self.open = Open::Nothing;
    }
}

/// A statement without the names of the tests that prove it: "[`a`, `b`]" at its end.
fn without_tests(words: &str) -> &str {
    match words.rfind(" [`").filter(|_| words.ends_with("`]")) {
        Some(end) => words.split_at(end).0,
        None => words,
    }
}

/// `code` and **strong** words are bold, *stressed* ones italic; of a link its text is left.
fn inlines(text: &str) -> Vec<Inline> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(['`', '*', '[']) {
        let (before, from) = rest.split_at(start);
        let (mark, end) = match from.as_bytes() {
            [b'`', ..] => ("`", "`"),
            [b'*', b'*', ..] => ("**", "**"),
            [b'*', ..] => ("*", "*"),
            _ => ("[", "]("),
        };
        let inner = from.strip_prefix(mark).unwrap_or_default();
        let Some((inner, after)) = inner.split_once(end) else {
            break;
        };
        parts.push(roman(before));
        match mark {
            "[" => {
                parts.extend(inlines(inner));
                rest = after.split_once(')').map_or("", |(_, after)| after);
                continue;
            }
            "*" => parts.push(italic(inner)),
            _ => parts.push(bold(inner)),
        }
        rest = after;
    }
    parts.push(roman(rest));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roff(markdown: &str) -> String {
        let mut out = Vec::new();
        write_markdown(markdown, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let preamble = Roff::new().render();
        text.strip_prefix(&preamble).unwrap_or(&text).to_owned()
    }

    #[test]
    fn blocks() {
        assert_eq!(
            roff("# A\n\none\ntwo\n\n- x\n  y\n- z\n\n    code\n      more\n\nend"),
            ".SH A\n.PP\none two\n.IP \\(bu 2\nx y\n.IP \\(bu 2\nz\n.PP\n.RS 4\n.EX\ncode\n  more\n.EE\n.RE\n\
             .PP\nend\n"
        );
        assert_eq!(
            roff("- **N1** x [y](z)\n  [`a`,\n  `b`]\n"),
            ".IP N1 4\nx y\n"
        );
        assert_eq!(
            roff("| a | b |\n| --- | --- |\n| `x` | is *y* |\n"),
            ".TP\n\\fBx\\fR\nis \\fIy\\fR\n"
        );
    }

    #[test]
    fn inline_marks() {
        assert_eq!(
            roff("a `b*c` **d** *e*(8) [f](g) 2 * 3"),
            ".PP\na \\fBb*c\\fR \\fBd\\fR \\fIe\\fR(8) f 2 * 3\n"
        );
    }
}
