//! Numbers in JSON that a tool has rounded.
//!
//! Many tools read every number as a double: jq before 1.7, and whatever is written in JavaScript. An id of 64 bits
//! (etcd's members have such) comes back from them as another number, and nobody has touched it knowingly.

use std::collections::{HashMap, HashSet};
use std::str;

/// A whole number of fewer digits fits a double.
const MIN_DIGITS: usize = 16;
/// So many digits tell any double from the next.
const DOUBLE_DIGITS: usize = 17;
/// Longer ones are no ids.
const MAX_DIGITS: usize = 40;

/// The first number of the JSON text `old` that is not in `new`, where there is in its place what a double makes of it.
///
/// What is not JSON has no such number, or one that is told in vain: the answer is for a remark, nothing more.
pub fn rounded<'a>(old: &'a [u8], new: &[u8]) -> Option<&'a str> {
    // In the order of the text, and by the double that each becomes.
    let exposed: Vec<(&str, f64)> = numbers(old).filter_map(exposed).collect();
    if exposed.is_empty() {
        return None;
    }
    let by_double: HashMap<u64, &str> = exposed.iter().map(|&(n, d)| (d.to_bits(), n)).collect();
    let (mut kept, mut made) = (HashSet::new(), HashSet::new());
    for token in numbers(new) {
        let Ok(double) = token.parse::<f64>() else {
            continue;
        };
        let Some(old) = by_double.get(&double.to_bits()) else {
            continue;
        };
        let short = digits(token) <= DOUBLE_DIGITS && digits(token) < digits(old);
        let by_rounding = short || *token == format!("{double:.0}");
        kept.insert(token);
        if by_rounding {
            made.insert(double.to_bits());
        }
    }
    let lost = |&&(number, double): &&(&str, f64)| {
        made.contains(&double.to_bits()) && !kept.contains(number)
    };
    exposed.iter().find(lost).map(|&(number, _)| number)
}

/// The double that a whole number becomes, if that is another number.
fn exposed(token: &str) -> Option<(&str, f64)> {
    let digits = token.strip_prefix('-').unwrap_or(token);
    let whole = digits.bytes().all(|b| b.is_ascii_digit());
    if !whole || !(MIN_DIGITS..=MAX_DIGITS).contains(&digits.len()) {
        return None;
    }
    let double: f64 = token.parse().ok()?;
    (format!("{double:.0}") != token).then_some((token, double))
}

/// How many digits of a number count.
fn digits(token: &str) -> usize {
    let mantissa = token.split(['e', 'E']).next().unwrap_or(token);
    let digits: Vec<u8> = mantissa.bytes().filter(u8::is_ascii_digit).collect();
    let first = digits
        .iter()
        .position(|&b| b != b'0')
        .unwrap_or(digits.len());
    let last = digits
        .iter()
        .rposition(|&b| b != b'0')
        .map_or(first, |at| at + 1);
    last - first
}

/// The numbers of a JSON text, as they are written.
fn numbers(text: &[u8]) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            match rest.first()? {
                b'"' => rest = behind_string(rest),
                b'-' | b'0'..=b'9' => {
                    let of_number =
                        |b: &u8| matches!(b, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
                    let len = rest
                        .iter()
                        .position(|b| !of_number(b))
                        .unwrap_or(rest.len());
                    let (number, behind) = rest.split_at(len);
                    rest = behind;
                    return str::from_utf8(number).ok(); // always: they are ASCII
                }
                _ => rest = rest.get(1..)?,
            }
        }
    })
}

/// What comes behind the string that `text` starts with.
fn behind_string(text: &[u8]) -> &[u8] {
    let mut escaped = false;
    let end = text.iter().skip(1).position(|&b| {
        let is_end = b == b'"' && !escaped;
        escaped = b == b'\\' && !escaped;
        is_end
    });
    end.and_then(|end| text.get(end + 2..)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(old: &str, new: &str) -> Option<String> {
        rounded(old.as_bytes(), new.as_bytes()).map(str::to_owned)
    }

    #[test]
    fn what_tools_make_of_an_id_is_found() {
        let id = "9223940723929199765";
        for made in [
            "9223940723929200000", // jq 1.6, JavaScript
            "9223940723929199616", // printf %.0f
            "9.2239407239292e+18", // what keeps 14 digits …
            "9.22394072392920e18",
            "9.223940723929200e+18",
        ] {
            let double: f64 = id.parse().unwrap();
            let is_same_double = made.parse::<f64>().unwrap() == double;
            let found = check(
                &format!("{{\"id\":{id}}}"),
                &format!("{{\n  \"id\": {made}\n}}"),
            );
            assert_eq!(found.as_deref(), is_same_double.then_some(id), "{made}");
        }
        assert!(check("[14897328164050071356]", "[14897328164050072000]").is_some());
        assert!(check("[-9007199254740993]", "[-9007199254740992]").is_some());
    }

    #[test]
    fn an_edit_by_hand_is_not() {
        let old = "{\"id\":9223940723929199765,\"n\":17}";
        assert_eq!(check(old, old), None);
        assert_eq!(check(old, "{\"id\":9223940723929199766,\"n\":17}"), None);
        assert_eq!(
            check(
                old,
                "{\"n\":9223940723929200000,\"id\":9223940723929199765}"
            ),
            None
        );
        assert_eq!(check(old, "{\"id\":1}"), None);
        assert_eq!(check(old, "{}"), None);
        assert_eq!(check(old, ""), None);
        // In a string it is text.
        assert_eq!(
            check("[\"9223940723929199765\"]", "[9223940723929200000]"),
            None
        );
        assert_eq!(
            check("[9223940723929199765]", "[\"\\\"9223940723929200000\"]"),
            None
        );
        // What a double can hold is not at risk.
        assert_eq!(check("[9007199254740992]", "[9007199254740990]"), None);
    }

    #[test]
    fn anything_may_be_given() {
        for text in [
            "",
            "\"",
            "\"\\",
            "-",
            "1e",
            "[1e999999]",
            "{\"a",
            "--5",
            "\u{ff}12345678901234567",
        ] {
            assert_eq!(check(text, text), None);
            assert_eq!(check("[9223940723929199765]", text), None);
        }
        let long = "1".repeat(100_000);
        assert_eq!(check(&long, &long), None);
        assert_eq!(check("[9223940723929199765]", &long), None);
    }
}
