//! The fixed bearer tokens of administrators.

use hotrow_shared::settings::Rotating;
use subtle::{Choice, ConstantTimeEq};

/// The tokens that let administrators in: the current one, and during a rotation the one before. Without any, nobody
/// gets in this way.
pub(super) struct AdminTokens(Option<Rotating<Vec<String>>>);

impl AdminTokens {
    /// Lets in callers with one of these tokens.
    #[must_use]
    pub(super) fn new(tokens: Option<Rotating<Vec<String>>>) -> Self {
        Self(tokens)
    }

    /// Returns whether this is one of the tokens.
    #[must_use]
    pub(super) fn hold(&self, given: &str) -> bool {
        let tokens = self.0.as_ref();
        tokens.is_some_and(|tokens| is_one_of(&tokens.current(), given))
    }
}

/// Returns whether a text is one of the tokens. It takes as long for a wrong one as for a right one of the same length.
fn is_one_of(tokens: &[String], given: &str) -> bool {
    let compare = |token: &String| given.as_bytes().ct_eq(token.as_bytes());
    let none = Choice::from(0);
    bool::from(tokens.iter().map(compare).fold(none, |any, one| any | one))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_current_token_and_the_one_before_are_known_and_no_part_of_them() {
        let tokens = ["one-of-the-tokens", "another"].map(str::to_owned);
        for right in &tokens {
            assert!(is_one_of(&tokens, right), "{right}");
        }
        for wrong in [
            "",
            "one-of-the-token",
            "another ",
            "one-of-the-tokensanother",
        ] {
            assert!(!is_one_of(&tokens, wrong), "{wrong:?}");
        }
        assert!(!AdminTokens::new(None).hold(""));
    }
}
