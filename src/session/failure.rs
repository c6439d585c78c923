//! What a person is told when something did not work: what happened, and what to do next.

use std::fmt;

/// A failure as it is shown: `boltfs: WHAT. NEXT`.
///
/// Every error of the lower floors becomes one of these before it reaches the terminal, so that
/// no message ends without a way on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    what: String,
    next: String,
}

impl Failure {
    /// `what`: one statement without a full stop. `next`: whole sentences that say what to do.
    pub fn new(what: impl Into<String>, next: impl Into<String>) -> Self {
        Failure {
            what: what.into(),
            next: next.into(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A cause that ends in a full stop of its own (fusermount3's do) must not get a second one.
        let what = self.what.trim_end().trim_end_matches('.');
        write!(f, "{what}.")?;
        if !self.next.is_empty() {
            write!(f, " {}", self.next)?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

/// The result of a step whose error is shown to a person.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statement_and_advice_are_sentences() {
        assert_eq!(
            Failure::new("it broke", "Mend it.").to_string(),
            "it broke. Mend it."
        );
        assert_eq!(Failure::new("it broke.\n", "").to_string(), "it broke.");
    }
}
