//! The claim that says what the holder of a token may do.

use hotrow_shared::change::Role;
use serde_json::{Map, Value};

/// The words of the roles that a token can have, from the lowest to the highest.
const WORDS: [(&str, Role); 4] = [
    ("customer", Role::Customer),
    ("support", Role::Support),
    ("shop", Role::Shop),
    ("admin", Role::Admin),
];

/// Where a token says the role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RoleClaim(String);

impl RoleClaim {
    /// The claim of this name: a member of the token, or a path of members with dots in between.
    pub(super) fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// Reads the role: a word, or a list of words of which the highest counts. Without the claim it is a customer, and
    /// so is whoever has a word that is not known.
    pub(super) fn read(&self, claims: &Map<String, Value>) -> Role {
        let words = match self.find(claims) {
            Some(Value::Array(words)) => words.as_slice(),
            Some(word) => std::slice::from_ref(word),
            None => &[],
        };
        let rank = |word: &Value| {
            WORDS
                .iter()
                .position(|(known, _)| word.as_str() == Some(*known))
        };
        let highest = words.iter().filter_map(rank).max();
        highest.map_or(Role::Customer, |at| WORDS[at].1)
    }

    /// Providers that want unique names use URLs, which have dots, too; so the whole name counts before the path.
    fn find<'c>(&self, claims: &'c Map<String, Value>) -> Option<&'c Value> {
        if let Some(value) = claims.get(&self.0) {
            return Some(value);
        }
        let mut parts = self.0.split('.');
        let first = claims.get(parts.next()?)?;
        parts.try_fold(first, |value, part| value.get(part))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn role(name: &str, claims: &Value) -> Role {
        let claims = claims.as_object().expect("an object");
        RoleClaim::new(name).read(claims)
    }

    #[test]
    fn the_highest_word_counts_and_an_unknown_one_is_a_customer() {
        for (claims, expected) in [
            (json!({}), Role::Customer),
            (json!({ "role": null }), Role::Customer),
            (json!({ "role": "customer" }), Role::Customer),
            (json!({ "role": "support" }), Role::Support),
            (json!({ "role": "shop" }), Role::Shop),
            (json!({ "role": "admin" }), Role::Admin),
            (json!({ "role": ["support", "admin", "shop"] }), Role::Admin),
            (json!({ "role": ["customer", "root", 7] }), Role::Customer),
            (json!({ "role": [] }), Role::Customer),
            // Hotrow itself is nobody's role.
            (json!({ "role": "system" }), Role::Customer),
            (json!({ "role": "Admin" }), Role::Customer),
            (json!({ "role": "admin shop" }), Role::Customer),
            (json!({ "role": { "admin": true } }), Role::Customer),
            (json!({ "role": [["admin"]] }), Role::Customer),
            (json!({ "roles": "admin" }), Role::Customer),
        ] {
            assert_eq!(role("role", &claims), expected, "{claims}");
        }
    }

    #[test]
    fn the_claim_may_be_a_path_or_a_name_with_dots() {
        let claims = json!({
            "realm_access": { "roles": ["offline_access", "shop"] },
            "https://shop.example/role": "support",
        });
        assert_eq!(role("realm_access.roles", &claims), Role::Shop);
        assert_eq!(role("https://shop.example/role", &claims), Role::Support);
        for none in ["realm_access", "realm_access.roles.0", "a.b", ".", ""] {
            assert_eq!(role(none, &claims), Role::Customer, "{none:?}");
        }
    }
}
