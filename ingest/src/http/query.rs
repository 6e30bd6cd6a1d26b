//! Query strings, read strictly: a parameter that is misspelt or given twice is refused, because a
//! client that is ignored believes that it was heard.

use axum::http::Uri;

use super::problem::Problem;

/// How much of a parameter's name an answer repeats, in characters.
const NAME_SHOWN_MAX: usize = 64;

/// Reads the parameters of a query, percent-decoded, in the order of `names`.
///
/// # Errors
/// `malformed` for a parameter that is not among `names`, that is given twice, or that is not UTF-8.
pub(crate) fn read<const N: usize>(
    uri: &Uri,
    names: [&str; N],
) -> Result<[Option<String>; N], Problem> {
    let mut values = [const { None }; N];
    let Some(query) = uri.query() else {
        return Ok(values);
    };
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let Some(at) = names.iter().position(|known| *known == name) else {
            return Err(unknown(&name, &names));
        };
        // What could not be decoded was replaced by this character.
        if value.contains(char::REPLACEMENT_CHARACTER) {
            return Err(malformed(&name, "is not percent-encoded UTF-8"));
        }
        if values[at].replace(value.into_owned()).is_some() {
            return Err(malformed(&name, "is given twice: give it once"));
        }
    }
    Ok(values)
}

/// Refuses any parameter, for a route that takes none.
///
/// # Errors
/// `malformed` if there is one.
pub(crate) fn refuse(uri: &Uri) -> Result<(), Problem> {
    read(uri, []).map(|[]| ())
}

fn unknown(name: &str, names: &[&str]) -> Problem {
    if names.is_empty() {
        return malformed(name, "is not known: this route takes none");
    }
    let names: Vec<_> = names.iter().map(|name| format!("\"{name}\"")).collect();
    let known = names.join(", ");
    malformed(name, &format!("is not known: this route takes {known}"))
}

fn malformed(name: &str, detail: &str) -> Problem {
    let shown: String = name.chars().take(NAME_SHOWN_MAX).collect();
    Problem::Malformed(format!("the query parameter \"{shown}\" {detail}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(query: &str) -> Result<[Option<String>; 2], String> {
        let uri = format!("/v1/inventory{query}").parse().expect("a path");
        read(&uri, ["limit", "after"]).map_err(|problem| {
            assert_eq!(problem.code(), "malformed");
            problem.to_string()
        })
    }

    #[test]
    fn parameters_are_decoded_whatever_their_order() {
        assert_eq!(page(""), Ok([None, None]));
        assert_eq!(page("?"), Ok([None, None]));
        let both = [Some("5".to_owned()), Some("a:b c".to_owned())];
        assert_eq!(page("?after=a%3Ab+c&limit=5"), Ok(both));
        assert_eq!(page("?limit"), Ok([Some(String::new()), None]));
    }

    #[test]
    fn a_parameter_that_is_unknown_repeated_or_not_text_is_named() {
        let refused = |query: &str, detail: &str| {
            let found = page(query).expect_err("must be refused");
            assert!(found.contains(detail), "{query}: {found}");
        };
        refused("?limt=5", r#""limt" is not known"#);
        refused("?limt=5", r#"takes "limit", "after""#);
        refused("?LIMIT=5", r#""LIMIT" is not known"#);
        refused("?limit=5&limit=5", r#""limit" is given twice"#);
        refused("?after=%ff", r#""after" is not percent-encoded UTF-8"#);
        refused(&format!("?{}=1", "x".repeat(1_000)), &"x".repeat(64));
        let long = page(&format!("?{}=1", "x".repeat(1_000))).expect_err("must be refused");
        assert!(long.len() < 200, "{long}");
    }

    #[test]
    fn a_route_without_parameters_refuses_any() {
        let ask = |path: &str| refuse(&path.parse().expect("a path"));
        assert!(ask("/v1/orders").is_ok());
        let problem = ask("/v1/orders?wait=1").expect_err("must be refused");
        let detail = problem.to_string();
        assert!(
            detail.contains("\"wait\"") && detail.contains("takes none"),
            "{detail}"
        );
    }
}
